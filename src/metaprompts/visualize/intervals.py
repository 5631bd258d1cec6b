"""Numbers of a few seeds with their means and intervals as an image: a panel a comparison, a row a variant."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from metaprompts.errors import InputError
from metaprompts.visualize.text import INK, Color, ImageArray, blank, fitted, stack_down, text_size, write_texts

_NAMES, _PLOT, _NUMBERS = 150, 420, 250
_GAP, _ROW, _TITLE, _FOOT = 16, 26, 34, 30
_SIZE_PX, _TITLE_PX = 13, 15
_FIRST: Color = (38, 94, 190)
_OTHER: Color = (181, 71, 47)
_LOST: Color = (190, 30, 40)
_FAINT: Color = (226, 228, 233)
_GRAY: Color = (120, 124, 134)
# Share of the axis left free on both sides.
_AIR = 0.06
# Bits of a pixel's fraction that OpenCV draws with.
_SHIFT = 4
_TICKS = 4


@dataclass(frozen=True, kw_only=True)
class Row:
    """The numbers of one variant.

    Attributes:
        name: written to the left
        values: of single seeds
        mean: NaN for none
        half_width: of the interval around the mean; NaN for none
        note: written next to the numbers
        lost: why seeds have no value, written in red; "" for none
    """

    name: str
    values: Sequence[float]
    mean: float
    half_width: float
    note: str = ""
    lost: str = ""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Rows with one axis; the first is what the others are compared with.

    Attributes:
        title: what is compared
        rows: at least one
    """

    title: str
    rows: Sequence[Row]


def draw_intervals(panels: Sequence[Panel], heading: str = "") -> ImageArray:
    """Draw panels under each other: seeds as faint dots, means as points, intervals as lines.

    Args:
        panels: at least one, with rows
        heading: written above all

    Returns:
        (height, width, 3)

    Raises:
        InputError: there is nothing to draw
    """
    if not panels or not all(panel.rows for panel in panels):
        raise InputError("an image of intervals got no rows; give at least one a panel")
    images = [_panel(panel) for panel in panels]
    if heading:
        top = blank(_TITLE, images[0].shape[1])
        images.insert(0, write_texts(top, [(_GAP, 8, fitted(heading, top.shape[1] - 2 * _GAP, 17))], size_px=17))
    return stack_down(*images)


def _panel(panel: Panel) -> ImageArray:
    height = len(panel.rows) * _ROW
    sheet = blank(_TITLE + height + _FOOT, _GAP + _NAMES + _PLOT + _GAP + _NUMBERS + _GAP)
    axis = _Axis.around(panel.rows)
    texts = _draw_axis(sheet, axis, _TITLE + height)
    if not math.isnan(panel.rows[0].mean):
        _dash_down(sheet, axis.x(panel.rows[0].mean), _TITLE, _TITLE + height)
    for number, row in enumerate(panel.rows):
        _draw_row(sheet, row, axis, _TITLE + number * _ROW + _ROW // 2, _OTHER if number else _FIRST)
    sheet = write_texts(sheet, [(_GAP, 8, fitted(panel.title, sheet.shape[1], _TITLE_PX))], size_px=_TITLE_PX)
    sheet = write_texts(sheet, texts, size_px=_SIZE_PX - 2, color=_GRAY)
    return _write_rows(sheet, panel.rows)


@dataclass(frozen=True, kw_only=True)
class _Axis:
    low: float
    high: float

    @classmethod
    def around(cls, rows: Sequence[Row]) -> "_Axis":
        """The values, and the intervals as far as they are not many times as wide as those."""
        values = [value for row in rows for value in row.values] or [0.0, 1.0]
        low, high = min(values), max(values)
        spread = high - low or max(abs(high), 1.0) * 0.1
        ends = [row.mean + sign * row.half_width for row in rows for sign in (-1, 1) if not math.isnan(row.half_width)]
        low, high = max(min([low, *ends]), low - spread), min(max([high, *ends]), high + spread)
        air = (high - low or spread) * _AIR
        return cls(low=low - air, high=high + air)

    def x(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return _GAP + _NAMES + min(max(share, 0.0), 1.0) * _PLOT

    def ticks(self) -> list[float]:
        """A few round numbers."""
        rough = (self.high - self.low) / _TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda width: abs(width - rough))
        first = math.ceil(self.low / step)
        return [number * step for number in range(first, math.floor(self.high / step) + 1)]


def _draw_axis(sheet: ImageArray, axis: _Axis, bottom: int) -> list[tuple[int, int, str]]:
    """Draw lines at round numbers; returns the tick labels below them."""
    ticks = axis.ticks()
    places = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9)) if len(ticks) > 1 else 3
    texts = []
    for tick in ticks:
        x, text = round(axis.x(tick)), f"{tick:.{places}f}"
        sheet[_TITLE:bottom, x] = _FAINT
        texts.append((x - text_size(text, _SIZE_PX - 2)[0] // 2, bottom + 4, text))
    sheet[bottom, _GAP + _NAMES : _GAP + _NAMES + _PLOT] = _GRAY
    return texts


def _dash_down(sheet: ImageArray, x: float, top: int, bottom: int) -> None:
    for start in range(top, bottom, 6):
        sheet[start : min(start + 3, bottom), round(x)] = _FIRST


def _draw_row(sheet: ImageArray, row: Row, axis: _Axis, y: int, color: Color) -> None:
    # Seeds lie below the interval, which would hide them; a single one is the mean.
    for value in row.values if len(row.values) > 1 else ():
        _dot(sheet, axis.x(value), y + 6, 3.2, _faded(color))
    y -= 2
    if not math.isnan(row.half_width):
        left, right = axis.x(row.mean - row.half_width), axis.x(row.mean + row.half_width)
        _line(sheet, (left, y), (right, y), color)
        for end, value in ((left, row.mean - row.half_width), (right, row.mean + row.half_width)):
            # No cap where the interval extends beyond the axis.
            if axis.low <= value <= axis.high:
                _line(sheet, (end, y - 5), (end, y + 5), color)
    if not math.isnan(row.mean):
        _dot(sheet, axis.x(row.mean), y, 5.2, color)


def _write_rows(sheet: ImageArray, rows: Sequence[Row]) -> ImageArray:
    places = [(row, _TITLE + number * _ROW + 5) for number, row in enumerate(rows)]
    right = _GAP + _NAMES + _PLOT + _GAP
    names = [(_GAP, top, fitted(row.name, _NAMES - _GAP, _SIZE_PX)) for row, top in places]
    notes = [(right, top, fitted(row.note, _NUMBERS, _SIZE_PX)) for row, top in places]
    lost = [
        (right + text_size(f"{row.note}  " if row.note else "", _SIZE_PX)[0], top, row.lost)
        for row, top in places
        if row.lost
    ]
    sheet = write_texts(sheet, [*names, *notes], size_px=_SIZE_PX, color=INK)
    return write_texts(sheet, lost, size_px=_SIZE_PX, color=_LOST)


def _faded(color: Color) -> Color:
    red, green, blue = (round(channel + (255 - channel) * 0.6) for channel in color)
    return red, green, blue


def _dot(sheet: ImageArray, x: float, y: float, radius: float, color: Color) -> None:
    center = (_fixed(x), _fixed(y))
    cv2.circle(sheet, center, _fixed(radius), color, -1, cv2.LINE_AA, _SHIFT)
    cv2.circle(sheet, center, _fixed(radius), (255, 255, 255), 1, cv2.LINE_AA, _SHIFT)


def _line(sheet: ImageArray, start: tuple[float, float], end: tuple[float, float], color: Color) -> None:
    points = np.array([[[_fixed(x), _fixed(y)] for x, y in (start, end)]], np.int32)
    cv2.polylines(sheet, [*points], False, color, 2, cv2.LINE_AA, _SHIFT)


def _fixed(value: float) -> int:
    return round(value * (1 << _SHIFT))
