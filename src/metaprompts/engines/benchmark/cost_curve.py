"""The cost of a prediction along one axis of the workload."""

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from metaprompts.engines.benchmark.engine_specs import EngineSpec
from metaprompts.engines.benchmark.flops import Flops, count_flops
from metaprompts.engines.benchmark.plan import Plan
from metaprompts.engines.benchmark.runner import Subject
from metaprompts.engines.benchmark.worker import EngineProcess
from metaprompts.engines.benchmark.workload import Workload

AXES: Mapping[str, str] = {
    "pixels": "pixels at the backbone's input",
    "steps": "K, steps",
    "prompts": "N, prompts",
    "batch": "B, images per batch",
    "windows": "windows, one after another",
}
"""Axis -> description."""

_SIDES, _SMALL_SIDES = (256, 384, 512, 768), (64, 128)
_PROMPTS, _FEW_PROMPTS = (50, 100, 150), (4, 8)
_COUNTS, _FEW_COUNTS = (1, 2, 4), (1, 2)
_BLOCK = 64


@dataclass(frozen=True, kw_only=True)
class CostPoint:
    """The cost of one workload.

    Attributes:
        workload: the workload to run
        flops: operations of the plain engine
        seconds: duration of each prediction
        memory: bytes, see `worker.EngineProcess.memory`
    """

    workload: Workload
    flops: Flops
    seconds: Sequence[float]
    memory: Mapping[str, int]

    @property
    def typical_s(self) -> float:
        """The median duration."""
        return median(self.seconds)

    def place(self, axis: str) -> int:
        """The position on an axis."""
        return math.prod(self.flops.seen) if axis == "pixels" else int(getattr(self.workload, axis))

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values."""
        return {
            **asdict(self.workload),
            "seen": list(self.flops.seen),
            "seconds": self.typical_s,
            "rounds_s": list(self.seconds),
            "memory_bytes": dict(self.memory),
            "flops": self.flops.total,
        }


@dataclass(frozen=True, kw_only=True)
class CostCurve:
    """Costs of workloads that differ along one axis.

    Attributes:
        spec: engine and precision
        axes: axis -> points, ascending
    """

    spec: EngineSpec
    axes: Mapping[str, Sequence[CostPoint]]

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values."""
        points = {axis: [point.to_dict() for point in points] for axis, points in self.axes.items()}
        return {"engine": self.spec.engine, "precision": self.spec.precision, "axes": points}


def measure_curve(plan: Plan, spec: EngineSpec) -> CostCurve:
    """Measure all points, each in its own process; points shared by several axes are measured once.

    Args:
        plan: settings of the measurement
        spec: engine and precision

    Raises:
        InputError: the engine does not open, or its process dies
    """
    axes = workloads_of_axes(plan)
    workloads = list(dict.fromkeys(workload for of_axis in axes.values() for workload in of_axis))
    plan.convert([spec], workloads)
    points = {}
    for number, workload in enumerate(workloads, 1):
        plan.on_stage(f"cost curve, point {number} of {len(workloads)}")
        points[workload] = _measured(plan, spec, workload)
    return CostCurve(spec=spec, axes={axis: [points[each] for each in of_axis] for axis, of_axis in axes.items()})


def _measured(plan: Plan, spec: EngineSpec, workload: Workload) -> CostPoint:
    if plan.request.quick:
        # A smoke test uses one process for all points, because each takes seconds to start; memory then covers all
        # points.
        return _point(plan, workload, Subject(plan.source, spec, workload, str(plan.device)))
    with closing(plan.opened(spec, workload)) as opened:
        return _point(plan, workload, opened)


def _point(plan: Plan, workload: Workload, opened: EngineProcess | Subject) -> CostPoint:
    opened.warm_up()
    return CostPoint(
        workload=workload,
        flops=count_flops(plan.config, workload),
        seconds=[opened.predict().total for _ in range(plan.request.rounds)],
        memory=opened.memory(),
    )


def workloads_of_axes(plan: Plan) -> dict[str, list[Workload]]:
    """The workloads on each axis; axes that the model does not have are omitted.

    Args:
        plan: settings of the measurement; its workload lies on every axis, and a quick plan has short axes
    """
    base, config, quick = plan.workload, plan.config, plan.request.quick
    counts = _FEW_COUNTS if quick else _COUNTS
    axes = {
        "pixels": [base.at(_original_size(plan, side)) for side in (_SMALL_SIDES if quick else _SIDES)],
        "steps": [replace(base, steps=steps) for steps in range(1, config.refinement.steps + 1)],
        "batch": [replace(base, batch=batch) for batch in counts],
    }
    if config.prompts.kind == "meta":
        # The number of labels, or of tokens per caption, is fixed.
        axes["prompts"] = [replace(base, prompts=count) for count in (_FEW_PROMPTS if quick else _PROMPTS)]
    if not config.task.reads_boxes:
        # Crops of people form a batch.
        side = min(base.size)
        axes["windows"] = [replace(base.at((side, side)), windows=windows) for windows in counts]
    return {axis: axes[axis] for axis in AXES if axis in axes}


def _original_size(plan: Plan, side: int) -> tuple[int, int]:
    """The size of a square image that the backbone sees with ``side`` pixels per side."""
    side = max(side - _BLOCK * getattr(plan.config.task, "margin_blocks", 0), _BLOCK)
    return side, side
