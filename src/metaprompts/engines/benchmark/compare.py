"""Compare engines; they run interleaved so that background load affects all equally."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from metaprompts.engines.benchmark.client import BenchmarkClient, OpenedEngine, WorkerProcess, convert
from metaprompts.engines.benchmark.engine_specs import PLAIN, EngineSpec
from metaprompts.engines.benchmark.flops import PEAK_TYPES, count_flops, multiply_speed
from metaprompts.engines.benchmark.results import Comparison, Measured, difference
from metaprompts.engines.benchmark.runner import Timing
from metaprompts.engines.benchmark.workload import Workload
from metaprompts.models.config import ModelConfig
from metaprompts.utils.system import memory_bytes

# An open engine holds the weights (twice if the file's pages are not released) and the memory of a prediction.
_HELD_OF_WEIGHTS = 2.5


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Settings of a measurement.

    Attributes:
        source: source of the model
        config: config of the model
        weights_bytes: size of the weights in its file
        workload: the predicted images
        rounds: predictions per engine
        threads: number of compute threads; None for PyTorch's default
        device: compute device
        together: whether all engines stay open; None to decide by available memory
        side: side of the matrices by which the machine's peak is measured
        on_stage: called with a description of the current stage
    """

    source: str
    config: ModelConfig
    weights_bytes: int
    workload: Workload
    rounds: int
    threads: int | None
    device: torch.device
    together: bool | None = None
    side: int = 2048
    on_stage: Callable[[str], None] = lambda what: None

    def process(self, name: str) -> BenchmarkClient:
        """Start a process for one engine."""
        return WorkerProcess(name, self.threads)

    def opened(
        self, spec: EngineSpec, process: BenchmarkClient | None = None, workload: Workload | None = None
    ) -> OpenedEngine:
        """Open an engine in a new process or in the given one.

        Raises:
            InputError: the engine does not open
        """
        process = process or self.process(spec.name)
        try:
            return OpenedEngine(process, self.source, spec, workload or self.workload, str(self.device))
        except BaseException:
            process.close()
            raise


def compare(plan: Plan, specs: Sequence[EngineSpec]) -> Comparison:
    """Measure all engines.

    Args:
        plan: settings of the measurement
        specs: the engines

    Raises:
        InputError: an engine does not open, or its process dies
    """
    convert_all(plan, specs, [plan.workload])
    timings: dict[EngineSpec, list[Timing]] = {each: [] for each in specs}
    speeds = dict.fromkeys(PEAK_TYPES, 0.0)
    with TemporaryDirectory() as folder, _threads(plan.threads):
        runner = _Runner(plan, Path(folder), keep_open=_stay_open(plan, len(specs)))
        try:
            for turn in range(plan.rounds):
                for name, dtype in PEAK_TYPES.items():
                    speeds[name] = max(speeds[name], multiply_speed(dtype, plan.device, plan.side))
                for each in specs:
                    plan.on_stage(f"round {turn + 1} of {plan.rounds}: {each.name}")
                    timings[each].append(runner.timing(each))
            runner.finish()
        finally:
            runner.close()
        outputs = {each: np.load(runner.raw(each)) for each in specs}
    plain = next((output for each, output in outputs.items() if each.engine == PLAIN), None)
    return Comparison(
        workload=plan.workload,
        flops=count_flops(plan.config, plan.workload),
        speeds=speeds,
        engines=[
            Measured(
                spec=each,
                timings=timings[each],
                memory=runner.memory[each],
                opening=runner.opening[each],
                difference=None if plain is None else difference(outputs[each], plain),
            )
            for each in specs
        ],
        kept_open=runner.keeps_open,
    )


def convert_all(plan: Plan, specs: Iterable[EngineSpec], workloads: Iterable[Workload]) -> None:
    """Convert and cache the models in advance, so that conversion is not measured.

    Raises:
        InputError: a model cannot be converted
    """
    by_prompts = {workload.prompts: workload for workload in workloads}
    for spec in specs:
        for workload in by_prompts.values() if spec.converts else ():
            plan.on_stage(f"converting for {spec.name}, unless that has been done before")
            convert(plan.source, spec, workload, str(plan.device), plan.threads)


class _Runner:
    """Runs engines that stay open or are reopened for each prediction.

    Args:
        plan: settings of the measurement
        folder: for raw outputs
        keep_open: whether they stay open
    """

    def __init__(self, plan: Plan, folder: Path, *, keep_open: bool) -> None:
        self._plan, self._folder, self.keeps_open = plan, folder, keep_open
        self._open: dict[EngineSpec, OpenedEngine] = {}
        self.memory: dict[EngineSpec, dict[str, int]] = {}
        self.opening: dict[EngineSpec, dict[str, float]] = {}

    def timing(self, spec: EngineSpec) -> Timing:
        """Predict once; opens the engine the first time."""
        if spec not in self._open:
            self._open[spec] = opened = self._plan.opened(spec)
            self.opening.setdefault(spec, opened.seconds)
        timing = self._open[spec].timing()
        if not self.keeps_open:
            self.finish()
        return timing

    def finish(self) -> None:
        """Record the memory of open engines, and close them."""
        for spec, opened in self._open.items():
            found, known = opened.memory(self.raw(spec)), self.memory.get(spec, {})
            self.memory[spec] = {name: max(value, known.get(name, 0)) for name, value in found.items()}
        self.close()

    def close(self) -> None:
        """Close all open engines."""
        while self._open:
            self._open.popitem()[1].close()

    def raw(self, spec: EngineSpec) -> Path:
        """The file of an engine's raw output."""
        return self._folder / f"{spec.engine}-{spec.precision}.npy"


def _stay_open(plan: Plan, engines: int) -> bool:
    if plan.together is not None:
        return plan.together
    free = memory_bytes("MemAvailable")
    return free is None or plan.device.type != "cpu" or engines * _HELD_OF_WEIGHTS * plan.weights_bytes < free


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Set the number of threads of this process."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
