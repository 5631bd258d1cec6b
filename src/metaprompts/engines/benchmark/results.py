"""Benchmark results and derived numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from metaprompts.engines.benchmark.engine_specs import PLAIN, EngineSpec
from metaprompts.engines.benchmark.flops import Flops
from metaprompts.engines.benchmark.runner import Timing
from metaprompts.engines.benchmark.workload import Workload

_PARTS = ("pre", "encode", "decode", "post", "total")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One engine's results.

    Attributes:
        spec: engine and precision
        timings: timings of each round
        memory: bytes, see `worker.EngineProcess.memory`
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
        whole = {part: median(getattr(each, part) for each in self.timings) for part in _PARTS}
        return Timing(**whole, steps=tuple(map(median, zip(*(each.steps for each in self.timings), strict=True))))

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
        return self.flops.total / median(each.computing for each in of.timings) / self._speed(of)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, including derived numbers."""
        return {
            "workload": asdict(self.workload),
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
            "seconds": asdict(of.typical),
            "fastest_s": low,
            "slowest_s": high,
            "rounds": [asdict(timing) for timing in of.timings],
            "opening_s": dict(of.opening),
            "memory_bytes": dict(of.memory),
            "time_of_plain": self.time_ratio(of),
            "memory_of_plain": self.memory_ratio(of),
            "share_of_peak": self.share_of_peak(of),
            "share_of_peak_by_part": self._shares(of),
            "difference_from_plain": None if of.difference is None else dict(of.difference),
        }

    def _shares(self, of: Measured) -> dict[str, Any]:
        timing, speed = of.typical, self._speed(of)
        return {
            "encode": self.flops.encode / timing.encode / speed,
            "steps": [flops / s / speed for flops, s in zip(self.flops.steps, timing.steps, strict=True)],
            "decode": self.flops.decode / timing.decode / speed,
        }

    def _speed(self, of: Measured) -> float:
        # 8-bit weights are multiplied in float32.
        return self.speeds.get(of.spec.precision, self.speeds["fp32"])
