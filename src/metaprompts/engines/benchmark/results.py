"""Benchmark results and derived numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from metaprompts.engines.benchmark.flops import Flops
from metaprompts.engines.benchmark.runner import Timing
from metaprompts.engines.benchmark.workload import Workload


@dataclass(frozen=True, kw_only=True)
class EngineResult:
    """One engine's results, as in bench.json.

    Attributes:
        engine: name of the engine
        precision: precision of the engine
        seconds: the median of each part; the median of the total is not the sum of these
        fastest_s: seconds of the fastest prediction
        slowest_s: seconds of the slowest prediction
        rounds: timings of each round
        opening_s: seconds of loading and opening, and of the first prediction
        memory_bytes: see `worker.EngineProcess.memory`
        time_of_plain: total seconds relative to the plain engine; None if the plain engine was not measured
        memory_of_plain: peak bytes relative to the plain engine
        share_of_peak: operations per second, relative to the peak speed of this machine; the operations of the plain
            engine are counted, even for engines that need fewer
        share_of_peak_by_part: ``share_of_peak`` for "encode", for each of the "steps", and for "decode"
        difference_from_plain: maximum ("max_of_std") and mean ("mean_of_std") difference from the plain engine's raw
            output, in units of the standard deviation of that output
    """

    engine: str
    precision: str
    seconds: Timing
    fastest_s: float
    slowest_s: float
    rounds: Sequence[Timing]
    opening_s: Mapping[str, float]
    memory_bytes: Mapping[str, int]
    time_of_plain: float | None
    memory_of_plain: float | None
    share_of_peak: float
    share_of_peak_by_part: Mapping[str, Any]
    difference_from_plain: Mapping[str, float] | None

    @property
    def name(self) -> str:
        """The engine and its precision as on the command line."""
        return f"{self.engine}:{self.precision}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The results of all engines on one workload.

    Attributes:
        workload: the workload to run
        flops: operations of the plain engine
        speeds: precision -> the best operations per second reached on this machine, by matrix products, convolutions or
            a part of an engine
        engines: results of the engines, in the requested order
        kept_open: whether all engines stayed open, or were reopened in every round
    """

    workload: Workload
    flops: Flops
    speeds: Mapping[str, float]
    engines: Sequence[EngineResult]
    kept_open: bool

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values."""
        return {
            "workload": asdict(self.workload),
            "seen": list(self.flops.seen),
            "flops": {**asdict(self.flops), "total": self.flops.total},
            "matrix_products_flops_per_second": dict(self.speeds),
            "kept_open": self.kept_open,
            "engines": [asdict(each) for each in self.engines],
        }
