"""Tables of benchmark results, in Markdown and for a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from metaprompts.engines.benchmark.cost_curve import CostCurve
from metaprompts.engines.benchmark.results import Comparison
from metaprompts.utils.markdown import markdown_table

GIB = 2**30


@dataclass(frozen=True)
class Rows:
    """A table.

    Attributes:
        title: heading
        head: column names; the first column is left-aligned, numbers are right-aligned
        cells: cells of each row
    """

    title: str
    head: Sequence[str]
    cells: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Format as Markdown, with the title as a heading."""
        return f"## {self.title}\n\n{markdown_table(self.head, self.cells, numbers=True)}"

    def rich(self) -> Table:
        """Format for a terminal."""
        table = Table(title=self.title, title_justify="left")
        for index, name in enumerate(self.head):
            table.add_column(name, justify="right" if index else "left", no_wrap=not index)
        for row in self.cells:
            table.add_row(*row)
        return table


def seconds_rows(comparison: Comparison) -> Rows:
    """Seconds by part, one row per engine."""
    head = ["engine", "pre", "VAE", "steps", "head", "post", "total", "fastest to slowest", "of plain"]
    cells = []
    for of in comparison.engines:
        timing, spread = of.seconds, f"{seconds(of.fastest_s)} to {seconds(of.slowest_s)}"
        steps = " + ".join(map(seconds, timing.steps))
        of_parts = [seconds(timing.pre), seconds(timing.encode), steps, seconds(timing.decode), seconds(timing.post)]
        cells.append([of.name, *of_parts, seconds(timing.total), spread, _ratio(of.time_of_plain)])
    return Rows("Median seconds", head, cells)


def memory_rows(comparison: Comparison) -> Rows:
    """Memory, fraction of this machine's speed, and difference from the plain engine, one row per engine."""
    head = ["engine", "peak GiB", "of plain", "predicting GiB", "of peak speed", "largest difference", "mean"]
    cells = []
    for of in comparison.engines:
        apart = of.difference_from_plain
        differences = ["-", "-"] if apart is None else [f"{apart[key]:.1e}" for key in ("max_of_std", "mean_of_std")]
        peak, predicting = gib(of.memory_bytes["peak"]), gib(of.memory_bytes["predicting"])
        share = f"{100 * of.share_of_peak:.0f}%"
        cells.append([of.name, peak, _ratio(of.memory_of_plain), predicting, share, *differences])
    return Rows("Memory, speed, agreement", head, cells)


def curve_rows(curve: CostCurve) -> Rows:
    """Seconds and memory, one row per point of each axis."""
    cells = [
        [
            axis,
            f"{point.place(axis)}",
            "x".join(map(str, point.flops.seen)),
            seconds(point.typical_s),
            f"{point.flops.total / 1e9:.4g}",
            gib(point.memory["peak"]),
            gib(point.memory["predicting"]),
        ]
        for axis, points in curve.axes.items()
        for point in points
    ]
    head = ["changed", "value", "backbone sees", "seconds", "GFLOP", "peak GiB", "predicting GiB"]
    return Rows(f"Cost of a prediction by {curve.spec.name}", head, cells)


def seconds(value: float) -> str:
    """Seconds with three significant digits, but no finer than milliseconds."""
    return f"{value:.3f}" if value < 1 else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def gib(size: float) -> str:
    """Bytes as GiB."""
    return f"{size / GIB:.2f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
