"""Run a benchmark and write its results."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from metaprompts.engines.benchmark.compare import compare
from metaprompts.engines.benchmark.cost_curve import CostCurve, measure_curve
from metaprompts.engines.benchmark.engine_specs import default_specs, parse_specs
from metaprompts.engines.benchmark.environment import machine_facts
from metaprompts.engines.benchmark.plan import Request, plan_for
from metaprompts.engines.benchmark.plots import comparison_figure, curve_figure
from metaprompts.engines.benchmark.results import Comparison
from metaprompts.engines.benchmark.tables import Rows, curve_rows, memory_rows, seconds_rows
from metaprompts.utils.device import pick_device
from metaprompts.utils.files import write_image, write_json, write_text


@dataclass(frozen=True, kw_only=True)
class Report:
    """The results of a benchmark, and the machine on which they were measured.

    Attributes:
        subject: description of what was measured
        machine: see `environment.machine_facts`
        comparison: the engines
        curve: the cost curve, if requested
    """

    subject: str
    machine: dict[str, Any]
    comparison: Comparison
    curve: CostCurve | None

    @property
    def tables(self) -> list[Rows]:
        """Tables of the engines' seconds and memory, and of the cost curve."""
        tables = [seconds_rows(self.comparison), memory_rows(self.comparison)]
        return tables if self.curve is None else [*tables, curve_rows(self.curve)]

    @property
    def notes(self) -> list[str]:
        """Notes for reading the tables."""
        shown, flops, speeds = self.comparison.workload, self.comparison.flops, self.comparison.speeds
        machine, versions = self.machine, self.machine["versions"]
        reached = " and ".join(f"{speed / 1e9:.0f} GFLOP/s in {name}" for name, speed in speeds.items())
        opened = "all engines stayed open" if self.comparison.kept_open else "each was reopened in every round"
        return [
            f"{self.subject}; images of {shown.size[0]}x{shown.size[1]}, resized to {flops.seen[0]}x{flops.seen[1]} "
            f"for the backbone; B = {shown.batch}, K = {shown.steps}, N = {shown.prompts}.",
            f"{machine['gpu'] or machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads; "
            + ", ".join(f"{name} {found}" for name, found in versions.items() if found)
            + f"; load before {machine['load_before']}.",
            f"{flops.total / 1e9:.4g} GFLOP by the plain path (VAE {flops.encode / 1e9:.4g}, a step "
            f"{flops.steps[0] / 1e9:.4g}, head {flops.decode / 1e9:.4g}); the fastest products and "
            f"convolutions of the installed libraries reach {reached} here.",
            f"Engines ran interleaved, one prediction each per round; {opened}. plain encodes in single precision, as "
            "the released code does. Differences are between raw outputs, in standard deviations of the plain "
            "output. Peak memory covers the whole process, including opening; predicting excludes opening and the "
            "first prediction.",
        ]

    def write(self, out: Path) -> None:
        """Write bench.json, bench.md and bench.png, and curve.png if there is a curve.

        Raises:
            InputError: the folder cannot be written
        """
        curve = None if self.curve is None else self.curve.to_dict()
        facts = {"subject": self.subject, "machine": self.machine, **self.comparison.to_dict(), "curve": curve}
        write_json(out / "bench.json", facts)
        text = "\n\n".join(["# metaprompts bench", *self.notes, *(table.markdown().rstrip() for table in self.tables)])
        write_text(out / "bench.md", text + "\n")
        write_image(out / "bench.png", comparison_figure(self.comparison))
        if self.curve is not None:
            write_image(out / "curve.png", curve_figure(self.curve))


def measure(request: Request, on_stage: Callable[[str], None] = lambda what: None) -> Report:
    """Run a benchmark.

    Args:
        request: what to measure
        on_stage: called with a description of the current stage

    Raises:
        InputError: a request cannot be measured
    """
    device = pick_device(request.device)
    specs = default_specs(device) if request.engines is None else parse_specs(request.engines, device)
    curve_by = None if request.curve is None else parse_specs([request.curve], device, "--curve-engine")[0]
    torch.set_num_threads(request.threads or torch.get_num_threads())
    plan = plan_for(request, on_stage)
    return Report(
        subject=plan.subject,
        machine=machine_facts(device),
        comparison=compare(plan, specs),
        curve=None if curve_by is None else measure_curve(plan, curve_by),
    )
