"""Legends below an image that explain its colors."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from metaprompts.visualize.text import Color, ImageArray, blank, fitted, text_size, wrapped, write_texts

_NARROWEST = 160
_SMALLEST_PX = 11
# Number of entries side by side on a square image, such that they are readable with the whole image on a screen.
_SHARE = 50
_OUTLINE: Color = (150, 150, 156)


def legend_text_px(height: int, width: int) -> int:
    """The font size in pixels of a legend for an image of this size."""
    return max(_SMALLEST_PX, min(width, 4 * height) // _SHARE)


def percent(share: float) -> str:
    """Format a share for a legend entry."""
    value = 100 * share
    return "<0.1%" if value < 0.1 else f"{value:.1f}%" if value < 10 else f"{value:.0f}%"


def strip_width(width: int) -> int:
    """The width of the strip below an image: that of the image, but at least wide enough for a word."""
    return max(width, _NARROWEST)


def swatches(entries: Sequence[tuple[str, str]], colors: NDArray[np.uint8], width: int, size_px: int) -> ImageArray:
    """Color swatches with names, on as many lines as needed.

    Args:
        entries: C pairs of a name, which is shortened if needed, and a suffix, which is never shortened
        colors: (C,3) RGB
        width: width of the strip in pixels
        size_px: size of the font

    Returns:
        (strip height, width, 3)
    """
    margin, line = size_px // 2, 3 * size_px // 2
    left, top = margin, margin
    places = []
    for name, behind in entries:
        free = width - 2 * margin - line - text_size(behind, size_px)[0]
        text = fitted(name, free, size_px) + behind
        wide = line + text_size(text, size_px)[0]
        if left > margin and left + wide > width - margin:
            left, top = margin, top + line
        places.append((left, top, text))
        left += wide + size_px
    strip = blank(top + size_px + margin, width)
    for (left, top, _), color in zip(places, colors, strict=True):
        fill(strip[top : top + size_px, left : left + size_px], color)
    text_height = text_size("0", size_px)[1]
    texts = [(left + line, top + (size_px - text_height) // 2, text) for left, top, text in places]
    return write_texts(strip, texts, size_px=size_px)


def fill(area: ImageArray, color: NDArray[np.uint8]) -> None:
    """Fill an area (H,W,3) of an image with a color, inside a gray outline."""
    area[:] = _OUTLINE
    area[1:-1, 1:-1] = color


def sentences(lines: Iterable[str], width: int, size_px: int) -> ImageArray:
    """Lines of text, wrapped between words; (strip height, width, 3)."""
    margin = size_px // 2
    broken = [part for line in lines for part in wrapped(line, width - 2 * margin, size_px)]
    line_height = text_size("0", size_px)[1]
    strip = blank(len(broken) * line_height + margin, width)
    return write_texts(strip, [(margin, row * line_height, text) for row, text in enumerate(broken)], size_px=size_px)


def framed(bands: Iterable[ImageArray], width: int, strip: ImageArray | None) -> Iterator[ImageArray]:
    """The rows of an image, padded on the right if the strip is wider, followed by the strip.

    Args:
        bands: consecutive rows (h,width,3)
        width: width of the image
        strip: (strip height, max(width, 160), 3); None to add no strip
    """
    if strip is None:
        yield from bands
        return
    rest = strip.shape[1] - width
    for band in bands:
        yield np.concatenate([band, blank(len(band), rest)], axis=1) if rest else band
    yield strip
