"""Bar charts of the share of each class in a data set."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metaprompts.visualize.legends import percent
from metaprompts.visualize.text import ImageArray, blank, drawn_name, fitted, stack_down, text_size, write_texts

_SIZE_PX, _ROW, _GAP = 13, 20, 8
_COLUMN, _NAME, _SWATCH = 420, 150, 12
_OUTLINE = (150, 150, 156)


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
        _fill(sheet, top + 3, left, _SWATCH, colors[index])
        _fill(sheet, top + 3, start, length, colors[index])
        texts.append((left + _SWATCH + _GAP, top, fitted(drawn_name(names[index], index), _NAME, _SIZE_PX)))
        texts.append((start + length + _GAP // 2, top, percent(shares[index]) if shares[index] else "never"))
    heading = write_texts(blank(_ROW + _GAP, sheet.shape[1]), [(_GAP, _GAP, title)], size_px=_SIZE_PX + 1)
    return stack_down(heading, write_texts(sheet, texts, size_px=_SIZE_PX))


def _fill(sheet: ImageArray, top: int, left: int, length: int, color: NDArray[np.uint8]) -> None:
    if length:
        sheet[top : top + _SWATCH, left : left + length] = _OUTLINE
        sheet[top + 1 : top + _SWATCH - 1, left + 1 : left + length - 1] = color
