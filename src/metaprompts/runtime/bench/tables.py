"""What was measured as rows of a table, in Markdown and for a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from metaprompts.runtime.bench.curve import AXES, CostCurve
from metaprompts.runtime.bench.results import Comparison, Measured

_GIB = 2**30


@dataclass(frozen=True)
class Rows:
    """A table.

    Attributes:
        title: above it
        head: names of the columns; the first is to the left, numbers to the right
        cells: of each row
    """

    title: str
    head: Sequence[str]
    cells: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """As Markdown, with the title as a heading."""
        rule = ["---", *["---:"] * (len(self.head) - 1)]
        lines = [f"| {' | '.join(row)} |" for row in (self.head, rule, *self.cells)]
        return "\n".join([f"## {self.title}", "", *lines, ""])

    def rich(self) -> Table:
        """For a terminal."""
        table = Table(title=self.title, title_justify="left")
        for index, name in enumerate(self.head):
            table.add_column(name, justify="right" if index else "left", no_wrap=not index)
        for row in self.cells:
            table.add_row(*row)
        return table


def comparison_rows(comparison: Comparison) -> Rows:
    """Seconds by part, memory, and what follows, a row for each engine."""
    steps = [f"step {step + 1}" for step in range(comparison.setting.steps)]
    head = [
        *("engine", "pre", "VAE", *steps, "head", "post", "total (fastest to slowest)", "of plain"),
        *("peak GiB", "of plain", "predicting GiB", "of matrix peak", "max diff", "mean diff"),
    ]
    return Rows("Engines, median seconds", head, [_row(comparison, each) for each in comparison.engines])


def curve_rows(curve: CostCurve) -> Rows:
    """Seconds and memory, a row for each point of each axis."""
    cells = [
        [
            AXES[axis],
            f"{point.place(axis)}",
            f"{point.seen[0]}x{point.seen[1]}",
            seconds(point.typical_s),
            f"{point.flops / 1e9:.4g}",
            gib(point.memory["peak"]),
            gib(point.memory["predicting"]),
        ]
        for axis, points in curve.axes.items()
        for point in points
    ]
    head = ["changed", "value", "backbone sees", "seconds", "GFLOP", "peak GiB", "predicting GiB"]
    return Rows(f"Cost of a prediction by {curve.contestant.name}", head, cells)


def seconds(value: float) -> str:
    """Three digits that count."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def gib(size: float) -> str:
    """Bytes as GiB."""
    return f"{size / _GIB:.2f}"


def _row(comparison: Comparison, of: Measured) -> list[str]:
    lap, (low, high) = of.typical, of.spread
    apart = of.difference
    return [
        of.contestant.name,
        *(seconds(part) for part in (lap.pre, lap.encode, *lap.steps, lap.finish, lap.post)),
        f"{seconds(lap.total)} ({seconds(low)} to {seconds(high)})",
        _ratio(comparison.time_ratio(of)),
        gib(of.memory["peak"]),
        _ratio(comparison.memory_ratio(of)),
        gib(of.memory["predicting"]),
        f"{100 * comparison.share_of_peak(of):.0f}%",
        *(("-", "-") if apart is None else (f"{apart['max_of_std']:.1e}", f"{apart['mean_of_std']:.1e}")),
    ]


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
