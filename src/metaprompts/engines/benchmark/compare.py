"""Compare engines; they run interleaved so that background load affects all equally."""

from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median

import numpy as np
from numpy.typing import NDArray

from metaprompts.engines.benchmark.engine_specs import PLAIN, EngineSpec
from metaprompts.engines.benchmark.flops import Flops, count_flops
from metaprompts.engines.benchmark.peak_speed import COMPUTES, PeakSpeed
from metaprompts.engines.benchmark.plan import Plan
from metaprompts.engines.benchmark.results import Comparison, EngineResult
from metaprompts.engines.benchmark.runner import Timing
from metaprompts.engines.benchmark.worker import EngineProcess
from metaprompts.models.model import MetaPromptModel
from metaprompts.utils.system import memory_bytes

# An open engine holds the weights (twice if the file's pages are not released), plus the memory for a prediction.
_HELD_OF_WEIGHTS = 2.5
# The side of the matrices whose product measures the machine's peak speed.
_SIDE, _QUICK_SIDE = 2048, 256
_PARTS = ("pre", "encode", "decode", "post", "total")


def compare(plan: Plan, specs: Sequence[EngineSpec]) -> Comparison:
    """Measure all engines.

    Args:
        plan: settings of the measurement
        specs: the engines

    Raises:
        InputError: an engine does not open, or its process dies
    """
    plan.convert(specs, [plan.workload])
    kept_open, rounds = _stay_open(plan, len(specs)), plan.request.rounds
    engines = [_Candidate(plan, spec) for spec in specs]
    peak = PeakSpeed(plan.device, _QUICK_SIDE if plan.request.quick else _SIDE)
    with ExitStack() as stack:
        for each in engines:
            stack.callback(each.close)
        for turn in range(1, rounds + 1):
            peak.measure()
            for each in engines:
                plan.on_stage(f"round {turn} of {rounds}: {each.spec.name}")
                each.predict()
                if not kept_open:
                    each.finish()
        for each in engines:
            each.finish()
    flops = count_flops(plan.config, plan.workload)
    for each in engines:
        # What an engine reached, the machine can reach: no share is above 1.
        peak.raise_to(each.computes, each.fastest_part(flops))
    plain = next((each for each in engines if each.spec.engine == PLAIN), None)
    return Comparison(
        workload=plan.workload,
        flops=flops,
        speeds=peak.best,
        engines=[each.result(flops, peak.best[each.computes], plain) for each in engines],
        kept_open=kept_open,
    )


class _Candidate:
    """One of the compared engines, which stays open or is reopened for each prediction."""

    def __init__(self, plan: Plan, spec: EngineSpec) -> None:
        self._plan, self.spec = plan, spec
        self._opened: EngineProcess | None = None
        self._timings: list[Timing] = []
        self._memory: dict[str, int] = {}
        self._opening: dict[str, float] = {}
        self._raw: NDArray[np.float32] = np.empty(0, dtype=np.float32)

    def predict(self) -> None:
        """Predict once; opens the engine if it is not open."""
        if self._opened is None:
            self._opened = self._plan.opened(self.spec, self._plan.workload)
            opening = {"opening": self._opened.opening_s, "first_prediction": self._opened.warm_up()}
            self._opening = self._opening or opening
        self._timings.append(self._opened.predict())

    def finish(self) -> None:
        """Record the memory and the last raw output of an open engine, and close it."""
        if self._opened is not None:
            found = self._opened.memory()
            self._memory = {name: max(size, self._memory.get(name, 0)) for name, size in found.items()}
            self._raw = self._opened.raw()
        self.close()

    def close(self) -> None:
        """Close the engine if it is open."""
        if self._opened is not None:
            self._opened.close()
        self._opened = None

    @property
    def typical(self) -> Timing:
        """The median of each part."""
        whole = {part: median(getattr(each, part) for each in self._timings) for part in _PARTS}
        return Timing(**whole, steps=tuple(map(median, zip(*(each.steps for each in self._timings), strict=True))))

    @property
    def computes(self) -> str:
        """The precision that the engine multiplies in."""
        return COMPUTES.get(self.spec.precision, self.spec.precision)

    def fastest_part(self, flops: Flops) -> float:
        """The best rate of a part in any prediction, in operations per second."""
        return max(
            amount / seconds
            for timing in self._timings
            for amount, seconds in zip(
                (flops.encode, *flops.steps, flops.decode), (timing.encode, *timing.steps, timing.decode), strict=True
            )
        )

    def result(self, flops: Flops, speed: float, plain: "_Candidate | None") -> EngineResult:
        """The results, relative to the plain engine and to the peak speed of this machine."""
        seconds, totals = self.typical, [each.total for each in self._timings]
        return EngineResult(
            engine=self.spec.engine,
            precision=self.spec.precision,
            seconds=seconds,
            fastest_s=min(totals),
            slowest_s=max(totals),
            rounds=self._timings,
            opening_s=self._opening,
            memory_bytes=self._memory,
            time_of_plain=None if plain is None else seconds.total / plain.typical.total,
            memory_of_plain=None if plain is None else self._memory["peak"] / plain._memory["peak"],
            share_of_peak=flops.total / median(each.computing for each in self._timings) / speed,
            share_of_peak_by_part={
                "encode": flops.encode / seconds.encode / speed,
                "steps": [each / s / speed for each, s in zip(flops.steps, seconds.steps, strict=True)],
                "decode": flops.decode / seconds.decode / speed,
            },
            difference_from_plain=None if plain is None else _difference(self._raw, plain._raw),
        )


def _difference(found: NDArray[np.float32], plain: NDArray[np.float32]) -> dict[str, float]:
    """The difference between two raw outputs, in units of the standard deviation of ``plain``."""
    apart, scale = np.abs(found.astype(np.float64) - plain), float(plain.std(dtype=np.float64)) or 1.0
    return {"max_of_std": float(apart.max()) / scale, "mean_of_std": float(apart.mean()) / scale}


def _stay_open(plan: Plan, engines: int) -> bool:
    if plan.request.together is not None:
        return plan.request.together
    free = memory_bytes("MemAvailable")
    weights = MetaPromptModel.from_config(plan.config).state_dict().values()
    held = _HELD_OF_WEIGHTS * sum(each.numel() * each.element_size() for each in weights)
    return free is None or plan.device.type != "cpu" or engines * held < free
