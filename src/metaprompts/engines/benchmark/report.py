"""Results of a benchmark as text, figures and files."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from metaprompts.engines.benchmark.measure import CostCurve, CostPoint, EngineResult, Results
from metaprompts.utils.files import write_image, write_json, write_text
from metaprompts.utils.wording import markdown_table
from metaprompts.visualize.bars import Stack, draw_stacks
from metaprompts.visualize.curves import Line, draw_lines
from metaprompts.visualize.text import ImageArray

_GIB = 2**30


def write(results: Results, out: Path) -> None:
    """Write bench.json, bench.md and bench.png, and curve.png if there is a curve."""
    write_json(out / "bench.json", asdict(results))
    write_text(out / "bench.md", "\n\n".join(["# metaprompts bench", *notes(results), tables(results)]))
    write_image(out / "bench.png", comparison_figure(results.engines))
    if results.curve is not None:
        write_image(out / "curve.png", curve_figure(results.curve))


def notes(results: Results) -> list[str]:
    """Notes for reading the tables."""
    shown, flops, machine = results.workload, results.flops, results.machine
    speeds = results.matrix_products_flops_per_second.items()
    reached = " and ".join(f"{speed / 1e9:.0f} GFLOP/s in {name}" for name, speed in speeds)
    opened = "all engines stayed open" if results.kept_open else "each was reopened in every round"
    return [
        f"{results.subject}; images of {_sized(shown.size)}, resized to {_sized(results.seen)} for the backbone; "
        f"B = {shown.batch}, K = {shown.steps}, N = {shown.prompts}.",
        f"{machine['gpu'] or machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads; "
        + ", ".join(f"{name} {found}" for name, found in machine["versions"].items() if found)
        + f"; load before {machine['load_before']}.",
        f"{flops.total / 1e9:.4g} GFLOP by the plain path (VAE {flops.encode / 1e9:.4g}, a step "
        f"{flops.steps[0] / 1e9:.4g}, head {flops.decode / 1e9:.4g}); the fastest products and "
        f"convolutions of the installed libraries reach {reached} here.",
        f"Engines ran interleaved, one prediction each per round; {opened}. plain encodes in single precision, as "
        "the released code does. Differences are between raw outputs, in standard deviations of the plain "
        "output. Opening includes loading; converted networks come from the cache. Peak memory covers the whole "
        "process, including opening; predicting excludes opening and the first prediction.",
    ]


def tables(results: Results) -> str:
    """Tables of the engines' seconds and memory, and of the cost curve, in Markdown."""
    rows = {
        "Median seconds": [_seconds_row(each) for each in results.engines],
        "Opening, memory, speed, agreement": [_memory_row(each) for each in results.engines],
    }
    if (curve := results.curve) is not None:
        rows[f"Cost of a prediction by {curve.name}"] = [
            _point_row(axis, point) for axis, points in curve.axes.items() for point in points
        ]
    return "\n".join(
        f"## {title}\n\n{markdown_table(list(of[0]), [list(row.values()) for row in of], numbers=True)}"
        for title, of in rows.items()
    )


def _seconds_row(of: EngineResult) -> dict[str, str]:
    timing = of.seconds
    return {
        "engine": of.name,
        "pre": seconds(timing.pre),
        "VAE": seconds(timing.encode),
        "steps": " + ".join(map(seconds, timing.steps)),
        "head": seconds(timing.decode),
        "post": seconds(timing.post),
        "total": seconds(timing.total),
        "fastest to slowest": f"{seconds(of.fastest_s)} to {seconds(of.slowest_s)}",
        "of plain": _or_dash(of.time_of_plain, ".2f"),
    }


def _memory_row(of: EngineResult) -> dict[str, str]:
    apart = of.difference_from_plain or {}
    return {
        "engine": of.name,
        "opening s": seconds(of.opening_s["opening"]),
        "first prediction s": seconds(of.opening_s["first_prediction"]),
        "peak GiB": gib(of.memory_bytes["peak"]),
        "of plain": _or_dash(of.memory_of_plain, ".2f"),
        "predicting GiB": gib(of.memory_bytes["predicting"]),
        "of peak speed": f"{100 * of.share_of_peak:.0f}%",
        "largest difference": _or_dash(apart.get("max_of_std"), ".1e"),
        "mean": _or_dash(apart.get("mean_of_std"), ".1e"),
    }


def _point_row(axis: str, point: CostPoint) -> dict[str, str]:
    return {
        "changed": axis,
        "value": f"{point.place(axis)}",
        "backbone sees": _sized(point.seen),
        "seconds": seconds(point.seconds),
        "GFLOP": f"{point.flops / 1e9:.4g}",
        "peak GiB": gib(point.memory_bytes["peak"]),
        "predicting GiB": gib(point.memory_bytes["predicting"]),
    }


def comparison_figure(engines: Sequence[EngineResult]) -> ImageArray:
    """Seconds by part and peak memory side by side, one bar each per engine."""
    stacks = []
    for each in engines:
        timing, peak = each.seconds, each.memory_bytes["peak"]
        steps = {f"step {number}": of_step for number, of_step in enumerate(timing.steps, 1)}
        parts = {"pre": timing.pre, "VAE": timing.encode, **steps, "head": timing.decode, "post": timing.post}
        note, second_note = f"{seconds(timing.total)} s", f"{gib(peak)} GiB"
        stacks.append(Stack(name=each.name, parts=parts, note=note, second=peak / _GIB, second_note=second_note))
    return draw_stacks(stacks, titles=("seconds", "peak memory, GiB"))


def curve_figure(curve: CostCurve) -> ImageArray:
    """Seconds and peak memory along each axis, one row of panels per axis."""
    rows = []
    for axis, points in curve.axes.items():
        places = [float(point.place(axis)) for point in points]
        times, sizes = [point.seconds for point in points], [point.memory_bytes["peak"] / _GIB for point in points]
        values = {f"seconds by {axis}": times, f"peak GiB by {axis}": sizes}
        rows.append([Line(title=title, places=places, values=of) for title, of in values.items()])
    return draw_lines(rows)


def seconds(value: float) -> str:
    """Seconds with three significant digits, but no finer than milliseconds."""
    return f"{value:.3f}" if value < 1 else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def gib(size: float) -> str:
    """Bytes as GiB."""
    return f"{size / _GIB:.2f}"


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _sized(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
