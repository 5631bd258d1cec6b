"""Numbers of many rows as an image: a matrix of colored cells, or bars."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from metaprompts.errors import InputError
from metaprompts.visualize.text import INK, Color, ImageArray, blank, fitted, text_size, write_texts

LOW: Color = (38, 94, 190)
HIGH: Color = (196, 42, 36)
_MISSING: Color = (214, 214, 214)
_SIZE_PX = 12
_CELL = 16
_GAP = 8
_WIDEST_NAME = 180
_HALF_BAR = 160


def draw_matrix(values: NDArray[np.floating], rows: Sequence[str], columns: Sequence[str]) -> ImageArray:
    """Draw a number a cell: red is above 0, blue below, white 0, gray missing; the largest has the full color.

    Args:
        values: (R,C); NaN is missing
        rows: R names, written to the left
        columns: C names, written upwards above

    Returns:
        an image, the range of the colors below

    Raises:
        InputError: names and values do not belong together
    """
    if values.shape != (len(rows), len(columns)) or not values.size:
        raise InputError(f"a matrix of {values.shape} has {len(rows)} row and {len(columns)} column names; one each")
    limit = _limit(values)
    left, top = _name_width(rows), _name_width(columns)
    cells = diverging(values / limit).repeat(_CELL, axis=0).repeat(_CELL, axis=1)
    note = f"blue {-limit:.2f}, white 0, red {limit:.2f}"
    width = max(left + cells.shape[1] + _GAP, text_size(note, _SIZE_PX)[0] + 2 * _GAP)
    sheet = blank(top + cells.shape[0] + 2 * _GAP + _CELL, width)
    sheet[:top, left : left + cells.shape[1]] = _upward(columns, top)
    sheet[top : top + cells.shape[0], left : left + cells.shape[1]] = cells
    texts = [(_GAP, top + row * _CELL, fitted(name, _WIDEST_NAME, _SIZE_PX)) for row, name in enumerate(rows)]
    return write_texts(sheet, [*texts, (_GAP, top + cells.shape[0] + _GAP, note)], size_px=_SIZE_PX)


def draw_bars(values: NDArray[np.floating], names: Sequence[str], limit: float) -> ImageArray:
    """Draw a bar for each number, to the right (red, above 0) or left (blue), with the number next to it.

    Args:
        values: (R,); NaN has no bar
        names: R names
        limit: the number that a full bar stands for

    Returns:
        an image

    Raises:
        InputError: names and values do not belong together
    """
    if values.shape != (len(names),) or not values.size:
        raise InputError(f"bars of {values.shape} have {len(names)} names; expected one each")
    left = _name_width(names)
    middle = left + _HALF_BAR
    sheet = blank(len(names) * _CELL + 2 * _GAP, middle + _HALF_BAR + text_size("-0.000", _SIZE_PX)[0] + 2 * _GAP)
    texts = []
    for row, (name, value) in enumerate(zip(names, values.tolist(), strict=True)):
        top = _GAP + row * _CELL
        length = 0 if np.isnan(value) else round(_HALF_BAR * min(abs(value) / limit, 1))
        start = middle if value > 0 else middle - length
        sheet[top + 2 : top + _CELL - 2, start : start + length] = HIGH if value > 0 else LOW
        texts.append((_GAP, top, fitted(name, _WIDEST_NAME, _SIZE_PX)))
        texts.append((middle + _HALF_BAR + _GAP, top, "-" if np.isnan(value) else f"{value:.3f}"))
    sheet[_GAP:-_GAP, middle] = INK
    return write_texts(sheet, texts, size_px=_SIZE_PX)


def diverging(shares: NDArray[np.floating]) -> ImageArray:
    """Color numbers: -1 blue, 0 white, 1 red, NaN gray.

    Args:
        shares: (...) in -1..1

    Returns:
        (...,3)
    """
    ends = np.where((shares > 0)[..., None], np.array(HIGH, np.float64), np.array(LOW, np.float64))
    colors = 255 + (ends - 255) * np.abs(np.nan_to_num(shares))[..., None]
    colors[np.isnan(shares)] = _MISSING
    drawn: ImageArray = np.rint(colors).astype(np.uint8)
    return drawn


def _limit(values: NDArray[np.floating]) -> float:
    known = np.abs(values[~np.isnan(values)])
    return float(known.max()) if known.size and known.max() > 0 else 1.0


def _name_width(names: Sequence[str]) -> int:
    return min(max(text_size(name, _SIZE_PX)[0] for name in names), _WIDEST_NAME) + 2 * _GAP


def _upward(names: Sequence[str], length: int) -> ImageArray:
    """Names written from below to above, one a column of cells."""
    strip = blank(len(names) * _CELL, length)
    texts = [(_GAP, row * _CELL, fitted(name, _WIDEST_NAME, _SIZE_PX)) for row, name in enumerate(names)]
    return np.rot90(write_texts(strip, texts, size_px=_SIZE_PX))
