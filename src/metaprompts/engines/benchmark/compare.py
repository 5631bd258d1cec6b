"""Engines compared in alternation: whatever else the machine does meets all alike."""

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
from metaprompts.engines.benchmark.workload import Setting
from metaprompts.models.config import ModelConfig
from metaprompts.utils.system import memory_bytes

# An open engine holds the weights, twice where the file's are not given back, and what a prediction needs.
_HELD_OF_WEIGHTS = 2.5


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to measure.

    Attributes:
        source: of the model
        config: its
        weights_bytes: of its file
        setting: what is predicted
        rounds: how often each engine is asked
        threads: to compute with; None for PyTorch's choice
        device: where to
        together: whether all engines stay open; None for as long as there is room for them
        side: of the matrices by which the machine's peak is measured
        on_stage: is called with what is done now
    """

    source: str
    config: ModelConfig
    weights_bytes: int
    setting: Setting
    rounds: int
    threads: int | None
    device: torch.device
    together: bool | None = None
    side: int = 2048
    on_stage: Callable[[str], None] = lambda what: None

    def process(self, name: str) -> BenchmarkClient:
        """A process for one engine."""
        return WorkerProcess(name, self.threads)

    def opened(
        self, contestant: EngineSpec, process: BenchmarkClient | None = None, setting: Setting | None = None
    ) -> OpenedEngine:
        """An engine, opened in a process of its own or in the given one.

        Raises:
            InputError: it does not open
        """
        process = process or self.process(contestant.name)
        try:
            return OpenedEngine(process, self.source, contestant, setting or self.setting, str(self.device))
        except BaseException:
            process.close()
            raise


def compare(plan: Plan, contestants: Sequence[EngineSpec]) -> Comparison:
    """Measure all engines.

    Args:
        plan: how
        contestants: the engines

    Raises:
        InputError: an engine does not open, or its process dies
    """
    convert_all(plan, contestants, [plan.setting])
    laps: dict[EngineSpec, list[Timing]] = {each: [] for each in contestants}
    speeds = dict.fromkeys(PEAK_TYPES, 0.0)
    with TemporaryDirectory() as folder, _threads(plan.threads):
        race = _Runner(plan, Path(folder), keep_open=_stay_open(plan, len(contestants)))
        try:
            for turn in range(plan.rounds):
                for name, dtype in PEAK_TYPES.items():
                    speeds[name] = max(speeds[name], multiply_speed(dtype, plan.device, plan.side))
                for each in contestants:
                    plan.on_stage(f"round {turn + 1} of {plan.rounds}: {each.name}")
                    laps[each].append(race.lap(each))
            race.finish()
        finally:
            race.close()
        outputs = {each: np.load(race.raw(each)) for each in contestants}
    plain = next((output for each, output in outputs.items() if each.engine == PLAIN), None)
    return Comparison(
        setting=plan.setting,
        flops=count_flops(plan.config, plan.setting),
        speeds=speeds,
        engines=[
            Measured(
                contestant=each,
                laps=laps[each],
                memory=race.memory[each],
                opening=race.opening[each],
                difference=None if plain is None else difference(outputs[each], plain),
            )
            for each in contestants
        ],
        kept_open=race.keeps_open,
    )


def convert_all(plan: Plan, contestants: Iterable[EngineSpec], settings: Iterable[Setting]) -> None:
    """Make and keep what is predicted by, so that nothing of that is measured.

    Raises:
        InputError: it cannot be made
    """
    by_prompts = {setting.prompts: setting for setting in settings}
    for contestant in contestants:
        for setting in by_prompts.values() if contestant.converts else ():
            plan.on_stage(f"converting for {contestant.name}, unless that has been done before")
            convert(plan.source, contestant, setting, str(plan.device), plan.threads)


class _Runner:
    """Engines that stay open, or are opened anew for each prediction.

    Args:
        plan: how to open
        folder: for raw outputs
        keep_open: whether they stay open
    """

    def __init__(self, plan: Plan, folder: Path, *, keep_open: bool) -> None:
        self._plan, self._folder, self.keeps_open = plan, folder, keep_open
        self._open: dict[EngineSpec, OpenedEngine] = {}
        self.memory: dict[EngineSpec, dict[str, int]] = {}
        self.opening: dict[EngineSpec, dict[str, float]] = {}

    def lap(self, contestant: EngineSpec) -> Timing:
        """Predict once; the first time after having opened the engine."""
        if contestant not in self._open:
            self._open[contestant] = opened = self._plan.opened(contestant)
            self.opening.setdefault(contestant, opened.seconds)
        lap = self._open[contestant].lap()
        if not self.keeps_open:
            self.finish()
        return lap

    def finish(self) -> None:
        """Note the memory of what is open, and end it."""
        for contestant, opened in self._open.items():
            found, known = opened.memory(self.raw(contestant)), self.memory.get(contestant, {})
            self.memory[contestant] = {name: max(value, known.get(name, 0)) for name, value in found.items()}
        self.close()

    def close(self) -> None:
        """End what is open."""
        while self._open:
            self._open.popitem()[1].close()

    def raw(self, contestant: EngineSpec) -> Path:
        """Where a raw output is."""
        return self._folder / f"{contestant.engine}-{contestant.precision}.npy"


def _stay_open(plan: Plan, engines: int) -> bool:
    if plan.together is not None:
        return plan.together
    free = memory_bytes("MemAvailable")
    return free is None or plan.device.type != "cpu" or engines * _HELD_OF_WEIGHTS * plan.weights_bytes < free


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let this process, too, compute with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
