"""What was measured as images."""

from metaprompts.engines.benchmark.cost_curve import AXES, CostCurve
from metaprompts.engines.benchmark.results import Comparison
from metaprompts.engines.benchmark.tables import gib, seconds
from metaprompts.visualize.panels import Line, draw_lines
from metaprompts.visualize.stacks import Stack, draw_stacks
from metaprompts.visualize.text import ImageArray

_GIB = 2**30


def comparison_figure(comparison: Comparison) -> ImageArray:
    """Seconds by part, and beside them peak memory, a bar of each for every engine."""
    stacks = []
    for each in comparison.engines:
        lap = each.typical
        named = {f"step {number}": of_step for number, of_step in enumerate(lap.steps, 1)}
        parts = {"pre": lap.pre, "VAE": lap.encode, **named, "head": lap.finish, "post": lap.post}
        stacks.append(
            Stack(
                name=each.contestant.name,
                parts=parts,
                note=f"{seconds(lap.total)} s",
                beside=each.memory["peak"] / _GIB,
                beside_note=f"{gib(each.memory['peak'])} GiB",
            )
        )
    return draw_stacks(stacks, titles=("seconds", "peak memory, GiB"))


def curve_figure(curve: CostCurve) -> ImageArray:
    """Seconds and peak memory over what is changed, a row of panels for each axis."""
    rows = []
    for axis, points in curve.axes.items():
        places = [float(point.place(axis)) for point in points]
        times, sizes = [point.typical_s for point in points], [point.memory["peak"] / _GIB for point in points]
        rows.append(
            [
                Line(title=f"seconds by {AXES[axis]}", places=places, values=times),
                Line(title=f"peak GiB by {AXES[axis]}", places=places, values=sizes),
            ]
        )
    return draw_lines(rows)
