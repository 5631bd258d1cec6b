"""A confusion matrix as an image."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metaprompts.visualize.text import INK, PAPER, Color, ImageArray, blank, fitted, text_size, write_texts

_GAP, _SIZE_PX, _SIDE, _WIDEST_NAME = 10, 12, 960, 180
# Numbers are written where they fit.
_SMALLEST_WRITTEN, _LARGEST_CELL, _SMALLEST_CELL = 30, 48, 13
_DARK: Color = (8, 48, 107)
_NOTHING: Color = (226, 226, 226)
_TITLE = "share of each class's pixels (rows: truth) predicted as each class (columns), in %"


def draw_confusion(pixels: NDArray[np.int64], names: Sequence[str]) -> ImageArray:
    """Draw which share of each class's pixels was predicted as which class; rows without pixels are gray.

    Args:
        pixels: (C, C), truth down, prediction across
        names: of the C classes

    Returns:
        (height, width, 3)
    """
    count = len(names)
    cell = int(np.clip(_SIDE // count, _SMALLEST_CELL, _LARGEST_CELL))
    wide = min(_WIDEST_NAME, max(text_size(name, _SIZE_PX)[0] for name in names))
    line = text_size("0", _SIZE_PX)[1]
    left, top = wide + 2 * _GAP, wide + 3 * _GAP + line
    sums = pixels.sum(axis=1, keepdims=True)
    shares = pixels / np.maximum(sums, 1)
    width = max(left + count * cell, _GAP + text_size(_TITLE, _SIZE_PX)[0]) + _GAP
    sheet = blank(top + count * cell + _GAP, width)
    colors = np.where(sums[..., None] > 0, _shaded(shares), np.array(_NOTHING, np.uint8)).astype(np.uint8)
    inside = colors.repeat(cell, axis=0).repeat(cell, axis=1)
    inside[::cell], inside[:, ::cell] = PAPER, PAPER
    sheet[top : top + count * cell, left : left + count * cell] = inside
    shown = [fitted(name, wide, _SIZE_PX) for name in names]
    sheet[_GAP + line + _GAP : top - _GAP, left : left + count * cell] = _across(shown, wide, cell, line)
    texts = [(_GAP, _GAP, _TITLE)]
    texts += [(_GAP, top + row * cell + (cell - line) // 2, name) for row, name in enumerate(shown)]
    sheet = write_texts(sheet, texts, size_px=_SIZE_PX)
    return _with_numbers(sheet, shares, (top, left), cell) if cell >= _SMALLEST_WRITTEN else sheet


def _shaded(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """(C, C) shares to (C, C, 3) colors; small shares are seen, too."""
    strength = np.sqrt(shares)[..., None]
    return np.asarray(np.rint(np.array(PAPER) + (np.array(_DARK) - np.array(PAPER)) * strength))


def _across(names: Sequence[str], wide: int, cell: int, line: int) -> ImageArray:
    """Names that are read from below, each above its column."""
    strip = blank(len(names) * cell, wide)
    texts = [(0, place * cell + (cell - line) // 2, name) for place, name in enumerate(names)]
    # Turned to the left, the last line is the rightmost column only if lines run upwards.
    return np.rot90(write_texts(strip, texts, size_px=_SIZE_PX), k=1)


def _with_numbers(sheet: ImageArray, shares: NDArray[np.float64], corner: tuple[int, int], cell: int) -> ImageArray:
    for color, is_dark in ((INK, False), (PAPER, True)):
        texts = []
        for row, column in zip(*np.nonzero(shares >= 0.005), strict=True):
            if (shares[row, column] > 0.35) != is_dark:
                continue
            text = f"{100 * shares[row, column]:.0f}"
            width, height = text_size(text, _SIZE_PX)
            left = corner[1] + column * cell + (cell - width) // 2
            texts.append((int(left), int(corner[0] + row * cell + (cell - height) // 2), text))
        sheet = write_texts(sheet, texts, size_px=_SIZE_PX, color=color)
    return sheet
