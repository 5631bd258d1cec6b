"""Class labels as color over the image, and the share of each class in a data set as bars."""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from metaprompts.errors import InputError
from metaprompts.utils.batches import row_bands
from metaprompts.visualize.legends import fill, percent, strip_width, swatches
from metaprompts.visualize.text import ImageArray, blank, drawn_name, fitted, stack_down, text_size, write_texts

# Found by search among 1300 colors: they maximize the smallest difference (CIEDE2000) of any two, mixed with dark,
# middle and light gray as in an overlay, for normal and for red- or green-blind vision. Their order keeps the first
# colors distinct even if one covers a dark part of an image and another a light part. Further colors are computed; many
# more colors cannot be told apart.
_FIRST = (
    *((59, 59, 137), (177, 255, 0), (255, 59, 0), (0, 59, 20), (235, 235, 216), (255, 137, 177), (177, 0, 255)),
    *((137, 235, 235), (235, 216, 118), (98, 0, 78), (137, 196, 255), (0, 157, 39), (0, 0, 196), (78, 39, 59)),
    *((196, 157, 118), (98, 98, 59), (39, 98, 118), (157, 118, 255), (59, 137, 118), (78, 118, 177)),
)
OPACITY = 0.6
"""The opacity of an overlay's tint."""
_COMPUTED = 256
# The classes of the embedded model. They have the same colors in all models, in this order.
_NAMED = (
    *("wall", "floor", "ceiling", "table", "sofa", "cabinet", "lamp", "ball", "person", "road", "pavement", "building"),
    *("tree", "sky", "car", "pole", "sign"),
)
# Sizes in a histogram, in pixels.
_SIZE_PX, _ROW, _GAP = 13, 20, 8
_COLUMN, _NAME, _SWATCH = 420, 150, 12


def palette(classes: int) -> ImageArray:
    """Distinct colors, the same in every run and for every count; the first colors differ the most.

    Args:
        classes: number of classes

    Returns:
        (classes,3) RGB
    """
    colors = _spread_colors()
    if classes > len(colors):
        colors = np.concatenate([colors, _further_colors(colors, classes - len(colors))])
    return colors[:classes].copy()


def class_colors(names: Sequence[str]) -> ImageArray:
    """The color of each class: classes of the embedded model have its colors, the others the next free ones.

    Args:
        names: names of C classes; case and surrounding spaces do not matter

    Returns:
        (C,3) RGB, all different
    """
    places = [_NAMED.index(name) if (name := each.strip().casefold()) in _NAMED else None for each in names]
    # Only the first of two classes with the same name.
    places = [None if place in places[:index] else place for index, place in enumerate(places)]
    free = (place for place in range(len(names) + len(_NAMED)) if place not in places)
    return palette(len(names) + len(_NAMED))[[next(free) if place is None else place for place in places]]


def overlay_labels(
    image: ImageArray, labels: NDArray[np.integer], palette: NDArray[np.uint8], opacity: float = OPACITY
) -> ImageArray:
    """Tint an image by class, with stronger color along the borders between classes.

    Args:
        image: (H,W,3)
        labels: (H,W); the image is unchanged where a label has no color (255 for ignored pixels)
        palette: (classes,3) RGB
        opacity: opacity of the tint, 0..1

    Returns:
        (H,W,3)

    Raises:
        InputError: image and labels differ in size
    """
    drawn = np.empty(image.shape, np.uint8)
    for rows, band in overlay_bands(image, labels, palette, opacity):
        drawn[rows] = band
    return drawn


def overlay_bands(
    image: ImageArray, labels: NDArray[np.integer], palette: NDArray[np.uint8], opacity: float = OPACITY
) -> Iterator[tuple[slice, ImageArray]]:
    """Tint an image as `overlay_labels` does, in bands of rows (h,W,3), from top to bottom."""
    if image.shape[:2] != labels.shape:
        raise InputError(f"image is {image.shape}, labels {labels.shape}; expected labels of the image's size")
    for rows in row_bands(*labels.shape):
        # Includes the row above, to draw the border between the two.
        above = min(rows.start, 1)
        classes = labels[rows.start - above : rows.stop].astype(np.int64)
        borders, classes, band = _borders(classes)[above:], classes[above:], image[rows]
        known = (classes >= 0) & (classes < len(palette))
        colors = palette[np.where(known, classes, 0)].astype(np.float32)
        strength = np.where(borders, min(1.0, opacity + 0.3), opacity) * known
        mixed = band + (colors - band) * strength[..., None].astype(np.float32)
        yield rows, np.rint(mixed).astype(np.uint8)


def class_legend(
    names: Sequence[str],
    colors: NDArray[np.uint8],
    width: int,
    *,
    numbers: Sequence[int] | None = None,
    shares: Sequence[float] | None = None,
    size_px: int | None = None,
) -> ImageArray:
    """A strip of color swatches with names, on as many lines as needed.

    Args:
        names: names of C classes; if no font has a name's letters, its number is drawn
        colors: (C,3) RGB
        width: width of the strip in pixels; raised to at least 160
        numbers: numbers of the classes; None for 0, 1, 2, ...
        shares: fraction of the image that each class covers, 0..1, written after the name; None to write none
        size_px: size of the font; None to choose it for the width

    Returns:
        (strip height, max(width, 160), 3)
    """
    width = strip_width(width)
    behind = [""] * len(names) if shares is None else [f" {percent(share)}" for share in shares]
    shown = [drawn_name(name, number) for name, number in zip(names, numbers or range(len(names)), strict=True)]
    return swatches(list(zip(shown, behind, strict=True)), colors, width, size_px or int(np.clip(width / 32, 11, 28)))


def class_histogram(
    title: str, names: Sequence[str], colors: NDArray[np.uint8], shares: Sequence[float], width: int
) -> ImageArray:
    """Draw one bar per class, the largest share first; classes that never occur are listed as well.

    Args:
        title: heading
        names: names of C classes
        colors: (C,3) RGB
        shares: (C,) shares of all pixels, 0..1; the largest share has the longest bar
        width: width of the image, pixels, which holds as many columns of classes as fit

    Returns:
        (height, at least ``width``, 3)
    """
    columns = max(1, min(width // _COLUMN, -(-len(names) // 10)))
    rows = -(-len(names) // columns)
    sheet, texts = blank(rows * _ROW + _GAP, max(width, columns * _COLUMN)), []
    longest = _COLUMN - _NAME - _SWATCH - 4 * _GAP - text_size("never", _SIZE_PX)[0]
    order = sorted(range(len(names)), key=lambda index: (-shares[index], index))
    for place, index in enumerate(order):
        top, left = place % rows * _ROW, _GAP + place // rows * _COLUMN
        start = left + _SWATCH + _NAME + 2 * _GAP
        length = max(round(longest * shares[index] / (max(shares) or 1)), 3 if shares[index] else 0)
        for first, wide in ((left, _SWATCH), (start, length)):
            fill(sheet[top + 3 : top + 3 + _SWATCH, first : first + wide], colors[index])
        texts.append((left + _SWATCH + _GAP, top, fitted(drawn_name(names[index], index), _NAME, _SIZE_PX)))
        texts.append((start + length + _GAP // 2, top, percent(shares[index]) if shares[index] else "never"))
    heading = write_texts(blank(_ROW + _GAP, sheet.shape[1]), [(_GAP, _GAP, title)], size_px=_SIZE_PX + 1)
    return stack_down(heading, write_texts(sheet, texts, size_px=_SIZE_PX))


def class_entries(names: Sequence[str], shares: Sequence[float]) -> dict[str, dict[str, str | float]]:
    """{index: {name, share, color}} of all classes, color as "#rrggbb", for JSON.

    Args:
        names: names of the C classes
        shares: fraction of the image that each class covers, 0..1
    """
    rows = enumerate(zip(names, shares, class_colors(names), strict=True))
    return {
        str(index): {"name": name, "share": share, "color": f"#{bytes(color).hex()}"}
        for index, (name, share, color) in rows
    }


def _borders(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    borders = np.zeros(labels.shape, dtype=np.bool_)
    borders[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    borders[1:] |= labels[1:] != labels[:-1]
    return borders


@cache
def _spread_colors() -> ImageArray:
    """Colors chosen one after another: each is the candidate farthest, in CIELAB, from all previous colors."""
    levels = np.linspace(20, 250, 16).round().astype(np.uint8)
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    lab = _lab(candidates)
    chosen = np.array(_FIRST, dtype=np.uint8)
    distance = np.linalg.norm(lab[:, None] - _lab(chosen)[None], axis=-1).min(1)
    # Very dark and very light tints are hard to distinguish from each other and from the image.
    distance[(lab[:, 0] < 25) | (lab[:, 0] > 92)] = -1
    further = []
    for _ in range(_COMPUTED - len(chosen)):
        farthest = int(distance.argmax())
        further.append(candidates[farthest])
        distance = np.minimum(distance, np.linalg.norm(lab - lab[farthest], axis=-1))
    return np.concatenate([chosen, np.stack(further)])


def _further_colors(taken: ImageArray, count: int) -> ImageArray:
    """More colors than the eye can distinguish, but all different: a walk that visits each 24-bit color once."""
    seen = {tuple(color) for color in taken.tolist()}
    numbers = (index * 0x9E3779 & 0xFFFFFF for index in range(1 << 24))
    walk = ((number >> 16, number >> 8 & 255, number & 255) for number in numbers)
    return np.array(list(islice((color for color in walk if color not in seen), count)), dtype=np.uint8)


def _lab(colors: ImageArray) -> NDArray[np.float32]:
    lab = cv2.cvtColor(colors[:, None].astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[:, 0]
    # Rounded, so the order does not depend on the last bit of a machine's arithmetic.
    rounded: NDArray[np.float32] = np.rint(lab)
    return rounded
