"""What was measured, and what follows from it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaprompts.engines.benchmark.engine_specs import PLAIN, EngineSpec
from metaprompts.engines.benchmark.flops import Flops
from metaprompts.engines.benchmark.runner import Timing
from metaprompts.engines.benchmark.workload import Setting


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One engine's results.

    Attributes:
        contestant: engine and precision
        laps: of each round
        memory: bytes, see `asking.OpenedEngine.memory`
        opening: seconds of loading and opening, and of the first prediction
        difference: from the plain path's raw output: "max_of_std" and "mean_of_std", in units of the standard
            deviation of that; None where plain was not measured
    """

    contestant: EngineSpec
    laps: Sequence[Timing]
    memory: Mapping[str, int]
    opening: Mapping[str, float]
    difference: Mapping[str, float] | None

    @property
    def typical(self) -> Timing:
        """The median of each part; that of the total is not their sum."""
        return typical_lap(self.laps)

    @property
    def computing(self) -> float:
        """Seconds of VAE, steps and head, median."""
        return median(lap.encode + sum(lap.steps) + lap.finish for lap in self.laps)

    @property
    def spread(self) -> tuple[float, float]:
        """Seconds of the fastest and of the slowest prediction."""
        totals = [lap.total for lap in self.laps]
        return min(totals), max(totals)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The results of all engines on one setting.

    Attributes:
        setting: what was predicted
        flops: by the plain path
        speeds: precision -> operations a second that matrix products reach here
        engines: in the order that was asked for
        kept_open: whether all engines were open all the time, or each anew in every round
    """

    setting: Setting
    flops: Flops
    speeds: Mapping[str, float]
    engines: Sequence[Measured]
    kept_open: bool

    @property
    def base(self) -> Measured | None:
        """The plain path, which the others are compared with."""
        return next((each for each in self.engines if each.contestant.engine == PLAIN), None)

    def time_ratio(self, of: Measured) -> float | None:
        """Total seconds by those of the plain path."""
        return None if self.base is None else of.typical.total / self.base.typical.total

    def memory_ratio(self, of: Measured) -> float | None:
        """Peak bytes by those of the plain path."""
        return None if self.base is None else of.memory["peak"] / self.base.memory["peak"]

    def share_of_peak(self, of: Measured) -> float:
        """What an engine makes of this machine's matrix products: operations a second by their speed.

        The operations are those of the plain path, also for engines that get by with fewer.
        """
        return self.flops.total / of.computing / self._speed(of)

    def plain(self) -> dict[str, Any]:
        """As plain values, with all that follows from what was measured."""
        return {
            "setting": self.setting.plain(),
            "seen": list(self.flops.seen),
            "flops": {**asdict(self.flops), "total": self.flops.total},
            "matrix_products_flops_per_second": dict(self.speeds),
            "kept_open": self.kept_open,
            "engines": [self._engine(each) for each in self.engines],
        }

    def _engine(self, of: Measured) -> dict[str, Any]:
        low, high = of.spread
        return {
            "engine": of.contestant.engine,
            "precision": of.contestant.precision,
            "seconds": of.typical.plain(),
            "fastest_s": low,
            "slowest_s": high,
            "rounds": [lap.plain() for lap in of.laps],
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

        lap = of.typical
        return {
            "encode": share(self.flops.encode, lap.encode),
            "steps": [share(flops, seconds) for flops, seconds in zip(self.flops.steps, lap.steps, strict=True)],
            "finish": share(self.flops.finish, lap.finish),
        }

    def _speed(self, of: Measured) -> float:
        # 8-bit weights are multiplied in float32.
        return self.speeds.get(of.contestant.precision, self.speeds["fp32"])


def typical_lap(laps: Sequence[Timing]) -> Timing:
    """The median of each part."""

    def middle(of: Callable[[Timing], float]) -> float:
        return median(map(of, laps))

    return Timing(
        pre=middle(lambda lap: lap.pre),
        encode=middle(lambda lap: lap.encode),
        steps=tuple(median(of_step) for of_step in zip(*(lap.steps for lap in laps), strict=True)),
        finish=middle(lambda lap: lap.finish),
        post=middle(lambda lap: lap.post),
        total=middle(lambda lap: lap.total),
    )


def difference(found: NDArray[np.float32], plain: NDArray[np.float32]) -> dict[str, float]:
    """How far a raw output is from the plain path's, in units of its standard deviation."""
    apart, scale = np.abs(found.astype(np.float64) - plain), float(plain.std(dtype=np.float64)) or 1.0
    return {"max_of_std": float(apart.max()) / scale, "mean_of_std": float(apart.mean()) / scale}
