"""Class labels as color over the picture."""

from collections.abc import Iterator, Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from metaprompts.errors import InputError
from metaprompts.row_bands import row_bands
from metaprompts.visualize.text import Picture, blank, fitted, text_size, write_texts

# Chosen by eye for the many data sets of at most twenty classes; further colors are computed.
_FIRST = (
    *((66, 133, 244), (234, 67, 53), (52, 168, 83), (251, 188, 4), (155, 81, 224), (255, 133, 27), (0, 188, 212)),
    *((240, 98, 180), (139, 195, 74), (29, 233, 182), (194, 24, 91), (26, 35, 126), (255, 213, 153), (0, 105, 92)),
    *((121, 85, 72), (179, 157, 219), (158, 157, 36), (96, 125, 139), (128, 222, 234), (200, 200, 200)),
)
_COMPUTED = 256


def palette(classes: int) -> Picture:
    """Distinct colors, the same ones in every run and for every count; the first of them differ the most.

    Args:
        classes: how many

    Returns:
        (classes,3) RGB
    """
    colors = _spread_colors()
    if classes > len(colors):
        colors = np.concatenate([colors, _further_colors(colors, classes - len(colors))])
    return colors[:classes].copy()


def overlay_labels(
    picture: Picture, labels: NDArray[np.integer], palette: NDArray[np.uint8], opacity: float = 0.55
) -> Picture:
    """Tint a picture by class, and draw the borders between classes stronger.

    Args:
        picture: (H,W,3)
        labels: (H,W); where a label has no color, as 255 for ignored pixels, the picture stays as it is
        palette: (classes,3) RGB
        opacity: of the tint, 0..1

    Returns:
        (H,W,3)

    Raises:
        InputError: picture and labels differ in size
    """
    drawn = np.empty(picture.shape, np.uint8)
    for rows, band in overlay_bands(picture, labels, palette, opacity):
        drawn[rows] = band
    return drawn


def overlay_bands(
    picture: Picture, labels: NDArray[np.integer], palette: NDArray[np.uint8], opacity: float = 0.55
) -> Iterator[tuple[slice, Picture]]:
    """Tint a picture as `overlay_labels` does, in bands of rows (h,W,3), from top to bottom."""
    if picture.shape[:2] != labels.shape:
        raise InputError(f"picture is {picture.shape}, labels {labels.shape}; expected labels of the picture's size")
    for rows in row_bands(*labels.shape):
        # With the row above, for the borders to it.
        above = min(rows.start, 1)
        classes = labels[rows.start - above : rows.stop].astype(np.int64)
        borders, classes, band = _borders(classes)[above:], classes[above:], picture[rows]
        known = (classes >= 0) & (classes < len(palette))
        colors = palette[np.where(known, classes, 0)].astype(np.float32)
        strength = np.where(borders, min(1.0, opacity + 0.3), opacity) * known
        mixed = band + (colors - band) * strength[..., None].astype(np.float32)
        yield rows, np.rint(mixed).astype(np.uint8)


def class_legend(names: Sequence[str], colors: NDArray[np.uint8], width: int) -> Picture:
    """A strip of color swatches with names, in as many lines as it takes.

    Args:
        names: of C classes
        colors: (C,3) RGB
        width: of the strip in pixels; at least 160 are taken

    Returns:
        (strip height, max(width, 160), 3)
    """
    width = max(width, 160)
    size_px = int(np.clip(width / 32, 11, 28))
    places, height = _legend_places(names, width, size_px)
    strip = blank(height, width)
    for (left, top, _), color in zip(places, colors, strict=True):
        strip[top : top + size_px, left : left + size_px] = color
    text_height = text_size("0", size_px)[1]
    texts = [(left + 3 * size_px // 2, top + (size_px - text_height) // 2, text) for left, top, text in places]
    return write_texts(strip, texts, size_px=size_px)


def _legend_places(names: Sequence[str], width: int, size_px: int) -> tuple[list[tuple[int, int, str]], int]:
    margin, line = size_px // 2, 3 * size_px // 2
    left, top = margin, margin
    places = []
    for name in names:
        text = fitted(name, width - 2 * margin - 3 * size_px // 2, size_px)
        wide = 3 * size_px // 2 + text_size(text, size_px)[0]
        if left > margin and left + wide > width - margin:
            left, top = margin, top + line
        places.append((left, top, text))
        left += wide + size_px
    return places, top + size_px + margin


def _borders(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    borders = np.zeros(labels.shape, dtype=np.bool_)
    borders[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    borders[1:] |= labels[1:] != labels[:-1]
    return borders


@cache
def _spread_colors() -> Picture:
    """Each next color is the candidate farthest, in CIELAB, from those before."""
    levels = np.linspace(20, 250, 16).round().astype(np.uint8)
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    lab = _lab(candidates)
    chosen = np.array(_FIRST, dtype=np.uint8)
    distance = np.linalg.norm(lab[:, None] - _lab(chosen)[None], axis=-1).min(1)
    # Very dark and very light tints can be told from neither each other nor the picture.
    distance[(lab[:, 0] < 25) | (lab[:, 0] > 92)] = -1
    further = []
    for _ in range(_COMPUTED - len(chosen)):
        farthest = int(distance.argmax())
        further.append(candidates[farthest])
        distance = np.minimum(distance, np.linalg.norm(lab - lab[farthest], axis=-1))
    return np.concatenate([chosen, np.stack(further)])


def _further_colors(taken: Picture, count: int) -> Picture:
    """Beyond what eyes can tell apart: merely distinct, by a walk that meets each 24-bit color once."""
    seen = {tuple(color) for color in taken.tolist()}
    walk = (color for color in _all_colors() if color not in seen)
    return np.array([next(walk) for _ in range(count)], dtype=np.uint8)


def _all_colors() -> Iterator[tuple[int, int, int]]:
    for index in range(1 << 24):
        number = index * 0x9E3779 & 0xFFFFFF
        yield number >> 16, number >> 8 & 255, number & 255


def _lab(colors: Picture) -> NDArray[np.float32]:
    lab = cv2.cvtColor(colors[:, None].astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[:, 0]
    # Rounded, so that the order cannot hang on the last bit of some machine's arithmetic.
    rounded: NDArray[np.float32] = np.rint(lab)
    return rounded
