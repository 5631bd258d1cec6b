"""Figures of benchmark results."""

from metaprompts.engines.benchmark.cost_curve import AXES, CostCurve
from metaprompts.engines.benchmark.results import Comparison
from metaprompts.engines.benchmark.tables import GIB, gib, seconds
from metaprompts.visualize.bars import Stack, draw_stacks
from metaprompts.visualize.lines import Line, draw_lines
from metaprompts.visualize.text import ImageArray


def comparison_figure(comparison: Comparison) -> ImageArray:
    """Seconds by part and peak memory side by side, one bar each per engine."""
    stacks = []
    for each in comparison.engines:
        timing = each.seconds
        named = {f"step {number}": of_step for number, of_step in enumerate(timing.steps, 1)}
        parts = {"pre": timing.pre, "VAE": timing.encode, **named, "head": timing.decode, "post": timing.post}
        stacks.append(
            Stack(
                name=each.name,
                parts=parts,
                note=f"{seconds(timing.total)} s",
                second=each.memory_bytes["peak"] / GIB,
                second_note=f"{gib(each.memory_bytes['peak'])} GiB",
            )
        )
    return draw_stacks(stacks, titles=("seconds", "peak memory, GiB"))


def curve_figure(curve: CostCurve) -> ImageArray:
    """Seconds and peak memory along each axis, one row of panels per axis."""
    rows = []
    for axis, points in curve.axes.items():
        places = [float(point.place(axis)) for point in points]
        times, sizes = [point.typical_s for point in points], [point.memory["peak"] / GIB for point in points]
        rows.append(
            [
                Line(title=f"seconds by {AXES[axis]}", places=places, values=times),
                Line(title=f"peak GiB by {AXES[axis]}", places=places, values=sizes),
            ]
        )
    return draw_lines(rows)
