"""Line plots, each in a panel with its own axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metaprompts.errors import InputError
from metaprompts.visualize.figures import draw_figure
from metaprompts.visualize.text import ImageArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 4.3, 2.0


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
    """Draw panels in rows; both axes begin at 0, so that proportional growth is a straight line through the corner.

    Returns:
        (height, width, 3)
    """
    columns = max(len(row) for row in rows)

    def paint(figure: "Figure") -> None:
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for panels, row in zip(grid, rows, strict=True):
            for axes, line in zip(panels, row, strict=True):
                axes.plot(line.places, line.values, "o-", color="#b5472f")
                axes.set_title(line.title)
                axes.set_xlim(0, 1.05 * max(line.places))
                axes.set_ylim(0, 1.1 * (max(line.values) or 1))
                axes.grid(alpha=0.3)

    return draw_figure((_WIDTH * columns, _HEIGHT * len(rows)), paint)
