"""Heatmap overlays, and the choice of maps to show."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from metaprompts.errors import InputError
from metaprompts.visualize.legends import sentences, strip_width
from metaprompts.visualize.text import ImageArray, blank, stack_down, text_size, write_texts

# A map whose relative range is below this is constant up to float32 rounding.
_ROUNDING = 1e-6
_KEY_PX, _KEY_GRAY = 14, 128


def normalize(values: NDArray[np.floating], seen: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Scale a map to 0..1 by its smallest and largest value.

    Args:
        values: (H,W)
        seen: (H,W), False where the map is undefined; such pixels are ignored and set to 0; None if defined everywhere

    Returns:
        (H,W); 0 everywhere if the map is constant up to rounding

    Raises:
        InputError: a value inside ``seen`` is NaN or infinite
    """
    seen = np.ones(values.shape, dtype=np.bool_) if seen is None else seen
    if not np.isfinite(values[seen]).all():
        raise InputError("a heatmap has NaN or infinite values: the model's weights are damaged")
    heat = np.zeros(values.shape, dtype=np.float32)
    if seen.any():
        low, high = values[seen].min(), values[seen].max()
        if high - low > _ROUNDING * max(abs(low), abs(high)):
            heat[seen] = (values[seen] - low) / (high - low)
    return heat


def overlay_heat(
    image: ImageArray, heat: NDArray[np.floating], seen: NDArray[np.bool_] | None = None, opacity: float = 0.6
) -> ImageArray:
    """Overlay heat on an image: dark blue is 0, green 0.5, dark red 1 (the color map "turbo").

    The image is drawn in gray, so that all colors show heat.

    Args:
        image: (H,W,3)
        heat: (H,W) in 0..1
        seen: (H,W), False where the image gets no color; None to color it everywhere
        opacity: opacity of the colors, 0..1

    Returns:
        (H,W,3)

    Raises:
        InputError: image and heat differ in size, or the heat is outside 0..1
    """
    if image.shape[:2] != heat.shape:
        raise InputError(f"image is {image.shape}, heat {heat.shape}; expected heat of the image's size")
    if not ((heat >= 0) & (heat <= 1)).all():
        raise InputError("heat is outside 0..1: normalize it first")
    gray = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1]
    colors = table[np.rint(255 * heat).astype(np.uint8)]
    strength = np.float32(opacity) * (np.ones_like(heat, np.float32) if seen is None else seen.astype(np.float32))
    drawn: ImageArray = np.rint(gray + (colors - gray) * strength[..., None]).astype(np.uint8)
    return drawn


def heat_legend(width: int, notes: Sequence[str] = ()) -> ImageArray:
    """A bar of the colors of `overlay_heat`, as they appear over middle gray.

    Args:
        width: width of the strip in pixels; raised to at least 160
        notes: sentences below the bar

    Returns:
        (strip height, max(width, 160), 3)
    """
    width, margin = strip_width(width), _KEY_PX // 2
    size = (_KEY_PX, width - 2 * margin)
    heat = np.linspace(0, 1, size[1])[None].repeat(size[0], axis=0)
    strip = blank(2 * margin + _KEY_PX + text_size("0", _KEY_PX)[1], width)
    strip[margin : margin + _KEY_PX, margin:-margin] = overlay_heat(np.full((*size, 3), _KEY_GRAY, np.uint8), heat)
    below, end = 3 * margin, "strongest"
    right = width - margin - text_size(end, _KEY_PX)[0]
    strip = write_texts(strip, [(margin, below, "weakest"), (right, below, end)], size_px=_KEY_PX)
    return stack_down(strip, sentences(notes, width, _KEY_PX)) if notes else strip


def most_distinct(maps: NDArray[np.floating], count: int) -> list[int]:
    """Choose prompts that respond clearly and differently, one after the other.

    The first is the prompt whose map, scaled to 0..1, has the largest variance; each next prompt has the largest
    variance times 1 - r, where r is the largest absolute correlation of its map with that of a prompt already chosen.
    Copies and negatives of a chosen map therefore come last, together with constant maps.

    Args:
        maps: (N,P), N maps of P pixels
        count: number of prompts to choose; if larger than N, all are chosen

    Returns:
        prompt indices in the order of choice; ties go to the lower index
    """
    centered = maps.astype(np.float64) - maps.mean(axis=1, keepdims=True, dtype=np.float64)
    ranges, lengths = np.ptp(centered, axis=1), np.linalg.norm(centered, axis=1)
    varies = ranges > _ROUNDING * np.abs(maps).max(axis=1)
    variances = np.divide(lengths, ranges, out=np.zeros(len(maps)), where=varies) ** 2 / maps.shape[1]
    directions = np.divide(centered, lengths[:, None], out=np.zeros(maps.shape), where=varies[:, None])
    similarity, chosen = np.zeros(len(maps)), list[int]()
    for _ in range(min(count, len(maps))):
        gains = variances * (1 - similarity)
        gains[chosen] = -np.inf
        chosen.append(int(gains.argmax()))
        similarity = np.maximum(similarity, np.abs(directions @ directions[chosen[-1]])).clip(max=1)
    return chosen
