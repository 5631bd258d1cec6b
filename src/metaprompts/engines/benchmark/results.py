"""Benchmark results and derived numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaprompts.engines.benchmark.engine_specs import PLAIN, EngineSpec
from metaprompts.engines.benchmark.flops import Flops
from metaprompts.engines.benchmark.runner import Timing
from metaprompts.engines.benchmark.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One engine's results.

    Attributes:
        spec: engine and precision
        timings: timings of each round
        memory: bytes, see `asking.OpenedEngine.memory`
        opening: seconds of loading and opening, and of the first prediction
        difference: from the plain engine's raw output: "max_of_std" and "mean_of_std", in units of its standard
            deviation; None if plain was not measured
    """

    spec: EngineSpec
    timings: Sequence[Timing]
    memory: Mapping[str, int]
    opening: Mapping[str, float]
    difference: Mapping[str, float] | None

    @property
    def typical(self) -> Timing:
        """The median of each part; the median of the total is not their sum."""
        return typical_timing(self.timings)

    @property
    def computing(self) -> float:
        """Seconds of VAE, steps and head, median."""
        return median(timing.encode + sum(timing.steps) + timing.decode for timing in self.timings)

    @property
    def spread(self) -> tuple[float, float]:
        """Seconds of the fastest and of the slowest prediction."""
        totals = [timing.total for timing in self.timings]
        return min(totals), max(totals)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The results of all engines on one workload.

    Attributes:
        workload: what was predicted
        flops: operations of the plain engine
        speeds: precision -> operations per second of matrix products on this machine
        engines: in the requested order
        kept_open: whether all engines stayed open, or were reopened in every round
    """

    workload: Workload
    flops: Flops
    speeds: Mapping[str, float]
    engines: Sequence[Measured]
    kept_open: bool

    @property
    def base(self) -> Measured | None:
        """The plain engine's results, the baseline."""
        return next((each for each in self.engines if each.spec.engine == PLAIN), None)

    def time_ratio(self, of: Measured) -> float | None:
        """Total seconds relative to the plain engine."""
        return None if self.base is None else of.typical.total / self.base.typical.total

    def memory_ratio(self, of: Measured) -> float | None:
        """Peak bytes relative to the plain engine."""
        return None if self.base is None else of.memory["peak"] / self.base.memory["peak"]

    def share_of_peak(self, of: Measured) -> float:
        """An engine's operations per second, relative to this machine's matrix products.

        Operations are those of the plain engine, also for engines that need fewer.
        """
        return self.flops.total / of.computing / self._speed(of)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, including derived numbers."""
        return {
            "workload": self.workload.to_dict(),
            "seen": list(self.flops.seen),
            "flops": {**asdict(self.flops), "total": self.flops.total},
            "matrix_products_flops_per_second": dict(self.speeds),
            "kept_open": self.kept_open,
            "engines": [self._engine(each) for each in self.engines],
        }

    def _engine(self, of: Measured) -> dict[str, Any]:
        low, high = of.spread
        return {
            "engine": of.spec.engine,
            "precision": of.spec.precision,
            "seconds": of.typical.to_dict(),
            "fastest_s": low,
            "slowest_s": high,
            "rounds": [timing.to_dict() for timing in of.timings],
            "opening_s": dict(of.opening),
            "memory_bytes": dict(of.memory),
            "time_of_plain": self.time_ratio(of),
            "memory_of_plain": self.memory_ratio(of),
            "share_of_peak": self.share_of_peak(of),
            "share_of_peak_by_part": self._shares(of),
            "difference_from_plain": None if of.difference is None else dict(of.difference),
        }

    def _shares(self, of: Measured) -> dict[str, Any]:
        def share(flops: float, seconds: float) -> float:
            return flops / seconds / self._speed(of)

        timing = of.typical
        return {
            "encode": share(self.flops.encode, timing.encode),
            "steps": [share(flops, seconds) for flops, seconds in zip(self.flops.steps, timing.steps, strict=True)],
            "decode": share(self.flops.decode, timing.decode),
        }

    def _speed(self, of: Measured) -> float:
        # 8-bit weights are multiplied in float32.
        return self.speeds.get(of.spec.precision, self.speeds["fp32"])


def typical_timing(timings: Sequence[Timing]) -> Timing:
    """The median of each part."""

    def middle(of: Callable[[Timing], float]) -> float:
        return median(map(of, timings))

    return Timing(
        pre=middle(lambda timing: timing.pre),
        encode=middle(lambda timing: timing.encode),
        steps=tuple(median(of_step) for of_step in zip(*(timing.steps for timing in timings), strict=True)),
        decode=middle(lambda timing: timing.decode),
        post=middle(lambda timing: timing.post),
        total=middle(lambda timing: timing.total),
    )


def difference(found: NDArray[np.float32], plain: NDArray[np.float32]) -> dict[str, float]:
    """The difference between a raw output and the plain engine's, in units of the latter's standard deviation."""
    apart, scale = np.abs(found.astype(np.float64) - plain), float(plain.std(dtype=np.float64)) or 1.0
    return {"max_of_std": float(apart.max()) / scale, "mean_of_std": float(apart.mean()) / scale}
