"""Plot values over steps, and over other quantities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from metaprompts.errors import InputError
from metaprompts.utils.wording import counted
from metaprompts.visualize.figures import draw_figure
from metaprompts.visualize.text import ImageArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches of a panel.
_WIDTH, _HEIGHT = 9.0, 2.7
_LINE_WIDTH, _LINE_HEIGHT = 4.3, 2.0
_EACH, _MEAN = "#c3c9d4", "#b5472f"
_MOST_MARKED = 60
# Share of the steps between the last one and the right edge.
_MARGIN = 0.02
# Larger values would overflow, because matplotlib computes differences of what it draws.
_LARGEST = 1e100


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One panel.

    Attributes:
        title: heading
        unit: unit of the values, written along the axis
        steps: (N,), ascending
        values: (N,); non-finite values are skipped
        smooth: window, in points, of a running mean drawn over the values; 1 to draw only the values
        cut_outliers: end the axis below a few high values, because the first losses may be far above all others
        limits: limits of the axis; None to derive them from the values
    """

    title: str
    unit: str
    steps: Sequence[float]
    values: Sequence[float]
    smooth: int = 1
    cut_outliers: bool = False
    limits: tuple[float | None, float | None] = (None, None)


def draw_curves(curves: Sequence[Curve], last_step: float) -> ImageArray:
    """Draw panels in a column, with a shared step axis.

    Args:
        curves: the panels
        last_step: the last step, just left of the right edge

    Returns:
        (height, width, 3)
    """

    def paint(figure: "Figure") -> None:
        from matplotlib.ticker import MaxNLocator

        panels = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
        for axes, curve in zip(panels, curves, strict=True):
            _draw(axes, curve)
        # The last point is a marker, of which the edge would cut half.
        panels[-1].set_xlim(0, (1 + _MARGIN) * max(last_step, 1))
        panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        panels[-1].set_xlabel("training step")

    return draw_figure((_WIDTH, _HEIGHT * len(curves)), paint)


def _draw(axes: "Axes", curve: Curve) -> None:
    steps, values = np.asarray(curve.steps, np.float64), np.asarray(curve.values, np.float64)
    steps, values = steps[np.isfinite(values)], np.clip(values[np.isfinite(values)], -_LARGEST, _LARGEST)
    axes.set_ylabel(curve.unit)
    axes.grid(alpha=0.3)
    # All panels have their own tick labels, so that each can be read alone.
    axes.tick_params(labelbottom=True)
    if not len(values):
        axes.set_title(curve.title)
        axes.text(0.5, 0.5, "none yet", transform=axes.transAxes, ha="center", va="center")
        return
    remarks = [curve.title]
    style = "o-" if len(values) <= _MOST_MARKED else "-"
    if curve.smooth > 1:
        axes.plot(steps, values, color=_EACH, linewidth=1, label="each step")
        mean = running_mean(values, curve.smooth)
        axes.plot(steps, mean, color=_MEAN, label=f"mean of the last {counted(curve.smooth, 'step')}")
        axes.legend(loc="upper right", fontsize=8)
    else:
        axes.plot(steps, values, style, color=_MEAN, markersize=4)
        if curve.cut_outliers:
            remarks.append("not smoothed")
    if missing := len(curve.values) - len(values):
        remarks.append(f"{counted(missing, 'value')} not finite, skipped")
    bottom, top = curve.limits
    if curve.cut_outliers:
        bottom, top = _without_outliers(values, bottom)
        above = 0 if top is None else int((values > top).sum())
        if above:
            remarks.append(f"{counted(above, 'step')} above the axis, which ends at the 98th percentile")
    axes.set_ylim(bottom, top)
    axes.set_title("; ".join(remarks))


def _without_outliers(values: NDArray[np.float64], bottom: float | None) -> tuple[float | None, float | None]:
    """Axis limits that exclude the highest values, with a margin; None if there is no range."""
    low, high = float(values.min()) if bottom is None else bottom, float(np.percentile(values, 98))
    margin = 0.05 * (high - low)
    return (low - margin if bottom is None else bottom, high + margin) if high > low else (bottom, None)


def running_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """The mean of each value and up to ``window`` - 1 values before it."""
    totals = np.concatenate([[0.0], values.cumsum()])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    means: NDArray[np.float64] = (totals[ends] - totals[starts]) / (ends - starts)
    return means


@dataclass(frozen=True, kw_only=True)
class Line:
    """One panel.

    Attributes:
        title: heading
        places: (N,), positions on the lower axis, above 0, ascending
        values: (N,), at least 0
    """

    title: str
    places: Sequence[float]
    values: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.places) != len(self.values) or not self.places:
            raise InputError(
                f"{self.title}: {len(self.places)} places, {len(self.values)} values; expected as many values as places"
            )


def draw_lines(rows: Sequence[Sequence[Line]]) -> ImageArray:
    """Draw panels in rows; both axes begin at 0, so that proportional growth is a straight line through the origin.

    Returns:
        (height, width, 3)
    """
    columns = max(len(row) for row in rows)

    def paint(figure: "Figure") -> None:
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for panels, row in zip(grid, rows, strict=True):
            for axes, line in zip(panels, row, strict=True):
                axes.plot(line.places, line.values, "o-", color=_MEAN)
                axes.set_title(line.title)
                axes.set_xlim(0, 1.05 * max(line.places))
                axes.set_ylim(0, 1.1 * (max(line.values) or 1))
                axes.grid(alpha=0.3)

    return draw_figure((_LINE_WIDTH * columns, _LINE_HEIGHT * len(rows)), paint)
