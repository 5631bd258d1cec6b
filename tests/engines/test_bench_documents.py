"""docs/performance.md tells what `metaprompts bench` wrote."""

import json
from pathlib import Path
from typing import Any

import pytest

from metaprompts.engines.benchmark.report import gib, seconds

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT = (DOCS / "performance.md").read_text(encoding="utf-8").splitlines()
BENCH = json.loads((DOCS / "bench/bench.json").read_text())
VNNI = json.loads((DOCS / "bench/bench_vnni.json").read_text())
CURVE = json.loads((DOCS / "bench/curve.json").read_text())["curve"]


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("engine", BENCH["engines"], ids=lambda each: f"{each['engine']}:{each['precision']}")
def test_engines_are_those_measured(engine: dict[str, Any]) -> None:
    name, timing, memory = f"{engine['engine']}:{engine['precision']}", engine["seconds"], engine["memory_bytes"]
    parts = [seconds(timing["pre"]), seconds(timing["encode"]), " + ".join(map(seconds, timing["steps"]))]
    spread = f"{seconds(engine['fastest_s'])} to {seconds(engine['slowest_s'])}"
    ends = [seconds(timing["decode"]), seconds(timing["post"]), seconds(timing["total"]), spread]
    apart = [f"{engine['difference_from_plain'][key]:.1e}" for key in ("max_of_std", "mean_of_std")]
    share = f"{100 * engine['share_of_peak']:.0f}%"

    assert row(name, *parts, *ends, f"{engine['time_of_plain']:.2f}") in DOCUMENT
    held = [gib(memory["peak"]), f"{engine['memory_of_plain']:.2f}", gib(memory["predicting"])]
    assert row(name, *held, share, *apart) in DOCUMENT


@pytest.mark.parametrize("engine", VNNI["engines"], ids=lambda each: f"{each['engine']}:{each['precision']}")
def test_engines_without_amx_are_those_measured(engine: dict[str, Any]) -> None:
    name, opening, memory = f"{engine['engine']}:{engine['precision']}", engine["opening_s"], engine["memory_bytes"]
    spread = f"{seconds(engine['fastest_s'])} to {seconds(engine['slowest_s'])}"
    times = [seconds(engine["seconds"]["total"]), spread, f"{engine['time_of_plain']:.2f}"]
    opened = [seconds(opening["opening"]), seconds(opening["first_prediction"])]
    held = [gib(memory["peak"]), f"{engine['memory_of_plain']:.2f}", f"{100 * engine['share_of_peak']:.0f}%"]
    apart = f"{engine['difference_from_plain']['mean_of_std']:.1e}"

    assert row(name, *times, *opened, *held, apart) in DOCUMENT


@pytest.mark.parametrize(("axis", "points"), CURVE["axes"].items())
def test_the_curve_is_the_one_measured(axis: str, points: list[dict[str, Any]]) -> None:
    for point in points:
        (height, width), memory = point["seen"], point["memory_bytes"]
        place = height * width if axis == "pixels" else point[axis]
        cost = [
            seconds(point["seconds"]),
            f"{point['flops'] / 1e9:.4g}",
            gib(memory["peak"]),
            gib(memory["predicting"]),
        ]
        assert row(axis, str(place), f"{height}x{width}", *cost) in DOCUMENT
