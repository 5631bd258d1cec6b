"""Run a benchmark and write its results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metaprompts.engines.benchmark.compare import Plan, compare
from metaprompts.engines.benchmark.cost_curve import CostCurve, measure_curve
from metaprompts.engines.benchmark.engine_specs import default_specs, parse_specs
from metaprompts.engines.benchmark.environment import machine_facts
from metaprompts.engines.benchmark.plots import comparison_figure, curve_figure
from metaprompts.engines.benchmark.results import Comparison
from metaprompts.engines.benchmark.synthetic_weights import RECIPES, full_width_config, rule_made_folder
from metaprompts.engines.benchmark.tables import Rows, curve_rows, memory_rows, seconds_rows
from metaprompts.engines.benchmark.workload import workload_for
from metaprompts.errors import InputError
from metaprompts.models.config import ModelConfig
from metaprompts.models.loading import load
from metaprompts.models.model import MetaPromptModel
from metaprompts.utils.device import pick_device
from metaprompts.utils.files import write_image, write_json, write_text

_SIZES = {"depth": (480, 480), "segmentation": (512, 512), "pose": (576, 448)}
_QUICK_SIZE = (64, 64)
_SIDE, _QUICK_SIDE = 2048, 256


@dataclass(frozen=True, kw_only=True)
class Request:
    """A benchmark request; None means the default.

    Attributes:
        model: a model folder, a hub id, or the name of an embedded model; None for the published model of ``task`` with
            synthetic weights
        task: "depth", "segmentation" or "pose"
        engines: ENGINE or ENGINE:PRECISION
        size: (height, width) of the image
        batch: B
        rounds: predictions per engine
        threads: number of compute threads
        device: compute device
        together: whether all engines stay open; None to decide by available memory
        curve: engine of the cost curve; None for no curve
        quick: measure an embedded miniature
    """

    model: str | None = None
    task: str = "depth"
    engines: Sequence[str] | None = None
    size: tuple[int, int] | None = None
    batch: int = 1
    rounds: int = 3
    threads: int | None = None
    device: str | None = None
    together: bool | None = None
    curve: str | None = None
    quick: bool = False


@dataclass(frozen=True, kw_only=True)
class Report:
    """The results of a benchmark, with the machine.

    Attributes:
        subject: description of what was measured
        machine: see `machine.machine_facts`
        comparison: the engines
        curve: the cost curve, if requested
    """

    subject: str
    machine: dict[str, Any]
    comparison: Comparison
    curve: CostCurve | None

    @property
    def tables(self) -> list[Rows]:
        """The engines' seconds and memory, and the cost curve."""
        tables = [seconds_rows(self.comparison), memory_rows(self.comparison)]
        return tables if self.curve is None else [*tables, curve_rows(self.curve)]

    @property
    def notes(self) -> list[str]:
        """Notes for reading the tables."""
        shown, flops, speeds = self.comparison.workload, self.comparison.flops, self.comparison.speeds
        machine, versions = self.machine, self.machine["versions"]
        reached = " and ".join(f"{speed / 1e9:.0f} GFLOP/s in {name}" for name, speed in speeds.items())
        opened = "all engines were open" if self.comparison.kept_open else "each was reopened in every round"
        return [
            f"{self.subject}; images of {shown.size[0]}x{shown.size[1]}, of which the backbone sees "
            f"{flops.seen[0]}x{flops.seen[1]}; B = {shown.batch}, K = {shown.steps}, N = {shown.prompts}.",
            f"{machine['gpu'] or machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads; "
            + ", ".join(f"{name} {found}" for name, found in versions.items() if found)
            + f"; load before {machine['load_before']}.",
            f"{flops.total / 1e9:.4g} GFLOP by the plain path (VAE {flops.encode / 1e9:.4g}, a step "
            f"{flops.steps[0] / 1e9:.4g}, head {flops.decode / 1e9:.4g}); matrix products reach {reached} here.",
            f"Engines were asked in turn, round after round; {opened}. plain encodes in single precision, as the "
            "released code does. Differences are of raw outputs, in standard deviations of plain's. Peak memory is the "
            "process's from its beginning, opening included; predicting leaves opening and the first prediction out.",
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
    _check(request)
    device = pick_device(request.device)
    specs = default_specs(device) if request.engines is None else parse_specs(request.engines, device)
    curve_by = None if request.curve is None else parse_specs([request.curve], device, "--curve-engine")[0]
    on_stage("making weights, unless that has been done before")
    source, config, size, subject = _subject(request)
    plan = Plan(
        source=source,
        config=config,
        weights_bytes=_weights_bytes(config),
        workload=workload_for(config, request.size, default=size, batch=request.batch),
        rounds=request.rounds,
        threads=request.threads,
        device=device,
        together=request.together,
        side=_QUICK_SIDE if request.quick else _SIDE,
        on_stage=on_stage,
    )
    return Report(
        subject=subject,
        machine=machine_facts(device, request.threads),
        comparison=compare(plan, specs),
        curve=None if curve_by is None else measure_curve(plan, curve_by, quick=request.quick),
    )


def _check(request: Request) -> None:
    if request.task not in RECIPES:
        raise InputError(f"--task is {request.task!r}; expected one of {', '.join(RECIPES)}")
    if request.quick and request.model is not None:
        raise InputError("--quick measures an embedded miniature: leave MODEL or --quick out")
    for name in ("rounds", "threads"):
        value = getattr(request, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} is {value}; expected at least 1")
    if request.engines is not None and not request.engines:
        raise InputError("--engines names none: give such as plain eager openvino:bf16, or leave it out")


def _subject(request: Request) -> tuple[str, ModelConfig, tuple[int, int], str]:
    """Source, config, default image size, and a name in words."""
    if request.quick or request.model is not None:
        source = request.model or f"micro-{request.task}"
        config = load(source, "cpu").config
        if request.quick:
            return source, replace(config, working_size=None), _QUICK_SIZE, f"embedded model {source}"
        return source, config, _SIZES[config.task.name], f"model {source}"
    config = full_width_config(request.task)
    subject = f"the model of recipe {RECIPES[request.task]} with rule-made weights"
    return str(rule_made_folder(config)), config, _SIZES[request.task], subject


def _weights_bytes(config: ModelConfig) -> int:
    model = MetaPromptModel.from_config(config)
    return sum(each.numel() * each.element_size() for each in model.state_dict().values())
