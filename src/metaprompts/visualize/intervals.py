"""Plot values of a few seeds with means and intervals: one panel per comparison, one row per variant."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metaprompts.errors import InputError
from metaprompts.visualize.figures import draw_figure, short_names
from metaprompts.visualize.text import ImageArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches: width of the chart, height of a row, and space for a panel's title and axis.
_WIDTH, _ROW, _BORDER = 9.0, 0.28, 0.7
_FIRST, _OTHER, _LOST = "#265ebe", "#b5472f", "#be1e28"
# Fraction of the axis left free on both sides.
_MARGIN = 0.06


@dataclass(frozen=True, kw_only=True)
class Row:
    """The numbers of one variant.

    Attributes:
        name: written to the left
        values: values of the individual seeds
        mean: mean of the values; NaN if there are none
        half_width: half width of the interval around the mean; NaN if there is no interval
        note: written next to the numbers
        lost: reason for missing seeds, written in red; "" if none are missing
    """

    name: str
    values: Sequence[float]
    mean: float
    half_width: float
    note: str = ""
    lost: str = ""


def draw_intervals(panels: Sequence[tuple[str, Sequence[Row]]], heading: str = "") -> ImageArray:
    """Draw panels in a column: seeds as faint dots, means as points, intervals as lines.

    Args:
        panels: at least one: a title, and rows with a common axis, which are compared with the first row
        heading: heading of the figure

    Returns:
        (height, width, 3)

    Raises:
        InputError: there is nothing to draw
    """
    if not panels or not all(rows for _, rows in panels):
        raise InputError("an interval chart has no rows; give at least one per panel")
    heights = [len(rows) * _ROW + _BORDER for _, rows in panels]
    names = [heading, *(text for title, rows in panels for text in (title, *(row.name for row in rows)))]

    def paint(figure: "Figure") -> None:
        figure.suptitle(heading, x=0.01, ha="left", parse_math=False)
        grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (title, rows) in zip(grid, panels, strict=True):
            _draw(axes, title, rows)

    return draw_figure((_WIDTH, sum(heights) + (0.4 if heading else 0)), paint, names)


def _draw(axes: "Axes", title: str, rows: Sequence[Row]) -> None:
    axes.set_title(title, parse_math=False)
    axes.set_yticks(range(len(rows)), short_names([row.name for row in rows]), parse_math=False)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(*_limits(rows))
    axes.grid(axis="x", alpha=0.4)
    if not math.isnan(rows[0].mean):
        axes.axvline(rows[0].mean, color=_FIRST, linestyle=":", linewidth=1)
    for place, row in enumerate(rows):
        color = _OTHER if place else _FIRST
        # Seeds are drawn below the interval, which would hide them; a single seed coincides with the mean.
        values = row.values if len(row.values) > 1 else ()
        axes.plot(values, [place + 0.22] * len(values), "o", color=color, alpha=0.4, markersize=4)
        if not math.isnan(row.half_width):
            axes.errorbar(row.mean, place - 0.08, xerr=row.half_width, color=color, capsize=4)
        axes.plot(row.mean, place - 0.08, "o", color=color)
        note = "  ".join(filter(None, (row.note, row.lost)))
        right, color = axes.get_yaxis_transform(), _LOST if row.lost else "black"
        axes.text(1.02, place, note, transform=right, va="center", color=color, parse_math=False)


def _limits(rows: Sequence[Row]) -> tuple[float, float]:
    """Axis limits around the values; intervals extend them by at most the range of the values on each side."""
    values = [value for row in rows for value in row.values] or [0.0, 1.0]
    low, high = min(values), max(values)
    spread = high - low or max(abs(high), 1.0) * 0.1
    ends = [row.mean + sign * row.half_width for row in rows for sign in (-1, 1) if not math.isnan(row.half_width)]
    low, high = max(min([low, *ends]), low - spread), min(max([high, *ends]), high + spread)
    margin = (high - low or spread) * _MARGIN
    return low - margin, high + margin
