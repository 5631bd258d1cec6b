"""The plan of a benchmark: models, engines and workloads."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from metaprompts.engines.benchmark.engine_specs import EngineSpec
from metaprompts.engines.benchmark.synthetic_weights import full_width_config, rule_made_folder
from metaprompts.engines.benchmark.worker import EngineProcess
from metaprompts.engines.benchmark.workload import Workload, workload_for
from metaprompts.engines.quantization.calibration import DEFAULT, CalibrationOptions
from metaprompts.errors import InputError
from metaprompts.models.config import ModelConfig
from metaprompts.models.loading import load
from metaprompts.tasks import TASKS, importable_tasks
from metaprompts.utils.device import pick_device

_QUICK_SIZE = (64, 64)


@dataclass(frozen=True, kw_only=True)
class Request:
    """A benchmark request; None means the default.

    Attributes:
        model: a model folder, a hub id, or the name of an embedded model; None for the published model of ``task`` with
            synthetic weights
        task: a task that has a published model
        engines: ENGINE or ENGINE:PRECISION
        size: (height, width) of the image
        batch: batch size, B
        rounds: predictions per engine
        threads: number of compute threads
        device: compute device
        together: whether all engines stay open; None to decide by available memory
        curve: engine of the cost curve; None to measure no curve
        quick: measure an embedded miniature
        calibration: images on which w8a8 is calibrated; by default generated scenes
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
    calibration: CalibrationOptions = DEFAULT

    def __post_init__(self) -> None:
        if self.task not in TASKS or TASKS[self.task].published is None:
            published = [name for name, task in importable_tasks().items() if task.published is not None]
            raise InputError(f"--task is {self.task!r}; expected one of {', '.join(published)}")
        if self.quick and self.model is not None:
            raise InputError("--quick measures an embedded miniature: leave out MODEL or --quick")
        for name, value in (("rounds", self.rounds), ("threads", self.threads)):
            if value is not None and value < 1:
                raise InputError(f"--{name} is {value}; expected at least 1")
        if self.engines is not None and not self.engines:
            raise InputError("--engine is empty: give, for example, plain, eager or openvino:bf16, or leave it out")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A resolved request.

    Attributes:
        request: what was requested
        subject: description of the model
        source: source of the model
        config: config of the model
        workload: the images to predict
        device: compute device
        on_stage: called with a description of the current stage
    """

    request: Request
    subject: str
    source: str
    config: ModelConfig
    workload: Workload
    device: torch.device
    on_stage: Callable[[str], None] = lambda what: None

    def opened(self, spec: EngineSpec, workload: Workload, doing: str = "") -> EngineProcess:
        """Open an engine in its own process.

        Args:
            spec: engine and precision
            workload: the workload to run
            doing: purpose of the process, for errors

        Raises:
            InputError: the engine does not open
        """
        name, threads = f"{spec.name}{doing}", self.request.threads
        return EngineProcess(name, threads, self.source, spec, workload, str(self.device), self.request.calibration)

    def convert(self, specs: Iterable[EngineSpec], workloads: Iterable[Workload]) -> None:
        """Convert and cache the models in advance, so that conversion is not measured.

        Raises:
            InputError: a model cannot be converted
        """
        by_prompts = {workload.prompts: workload for workload in workloads}
        for spec in specs:
            for workload in by_prompts.values() if spec.converts else ():
                self.on_stage(f"converting for {spec.name}, unless cached")
                self.opened(spec, workload, " while converting").close()


def plan_for(request: Request, on_stage: Callable[[str], None]) -> Plan:
    """Resolve a request, and create synthetic weights if it names no model.

    Raises:
        InputError: the request cannot be measured
    """
    if request.quick or request.model is not None:
        source = request.model or f"micro-{request.task}"
        config = load(source, "cpu").config
        subject = f"{'embedded ' if request.quick else ''}model {source}"
    else:
        config = full_width_config(request.task)
        on_stage("making weights, unless cached")
        source = str(rule_made_folder(config))
        subject = f"the model of recipe {TASKS[request.task].published} with synthetic weights"
    if request.quick:
        config = replace(config, working_size=None)
    default = _QUICK_SIZE if request.quick else config.task.published_size
    return Plan(
        request=request,
        subject=subject,
        source=source,
        config=config,
        workload=workload_for(config, request.size, default=default, batch=request.batch),
        device=pick_device(request.device),
        on_stage=on_stage,
    )
