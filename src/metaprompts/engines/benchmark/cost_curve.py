"""The cost of a prediction along one axis of the workload."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from metaprompts.engines.benchmark.compare import Plan, convert_all
from metaprompts.engines.benchmark.engine_specs import EngineSpec
from metaprompts.engines.benchmark.flops import count_flops
from metaprompts.engines.benchmark.workload import Workload
from metaprompts.tasks import Depth, Pose

AXES: Mapping[str, str] = {
    "pixels": "pixels that the backbone sees",
    "steps": "K, steps",
    "prompts": "N, prompts",
    "batch": "B, images at once",
    "windows": "windows, one after the other",
}
"""Axis -> its description."""

_SIDES, _SMALL_SIDES = (256, 384, 512, 768), (64, 128)
_PROMPTS, _FEW_PROMPTS = (50, 100, 150), (4, 8)
_COUNTS, _FEW_COUNTS = (1, 2, 4), (1, 2)
_BLOCK = 64


@dataclass(frozen=True, kw_only=True)
class CostPoint:
    """The cost of one workload.

    Attributes:
        workload: what was predicted
        seen: (height, width) of the images that the backbone sees
        seconds: duration of each prediction
        memory: bytes, see `asking.OpenedEngine.memory`
        flops: operations of the plain engine
    """

    workload: Workload
    seen: tuple[int, int]
    seconds: Sequence[float]
    memory: Mapping[str, int]
    flops: float

    @property
    def typical_s(self) -> float:
        """The median."""
        return median(self.seconds)

    def place(self, axis: str) -> int:
        """The position on an axis."""
        return self.seen[0] * self.seen[1] if axis == "pixels" else int(getattr(self.workload, axis))

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            **self.workload.to_dict(),
            "seen": list(self.seen),
            "seconds": self.typical_s,
            "rounds_s": list(self.seconds),
            "memory_bytes": dict(self.memory),
            "flops": self.flops,
        }


@dataclass(frozen=True, kw_only=True)
class CostCurve:
    """Costs of workloads that differ along one axis.

    Attributes:
        spec: engine and precision
        axes: axis -> its points, ascending
    """

    spec: EngineSpec
    axes: Mapping[str, Sequence[CostPoint]]

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        points = {axis: [point.to_dict() for point in points] for axis, points in self.axes.items()}
        return {"engine": self.spec.engine, "precision": self.spec.precision, "axes": points}


def measure_curve(plan: Plan, spec: EngineSpec, *, quick: bool) -> CostCurve:
    """Measure all points, and points shared by several axes only once.

    Args:
        plan: settings of the measurement
        spec: engine and precision
        quick: a few tiny points in one process, instead of each in a fresh one

    Raises:
        InputError: the engine does not open, or its process dies
    """
    axes = workloads_of_axes(plan, quick=quick)
    workloads = list(dict.fromkeys(workload for of_axis in axes.values() for workload in of_axis))
    convert_all(plan, [spec], workloads)
    shared = plan.process(spec.name) if quick else None
    points = {}
    try:
        for number, workload in enumerate(workloads, 1):
            plan.on_stage(f"cost curve, point {number} of {len(workloads)}")
            flops = count_flops(plan.config, workload)
            opened = plan.opened(spec, shared, workload)
            try:
                seconds = [opened.timing().total for _ in range(plan.rounds)]
                points[workload] = CostPoint(
                    workload=workload, seen=flops.seen, seconds=seconds, memory=opened.memory(), flops=flops.total
                )
            finally:
                if shared is None:
                    opened.close()
    finally:
        if shared is not None:
            shared.close()
    return CostCurve(
        spec=spec,
        axes={axis: [points[workload] for workload in of_axis] for axis, of_axis in axes.items()},
    )


def workloads_of_axes(plan: Plan, *, quick: bool) -> dict[str, list[Workload]]:
    """The workloads on each axis; axes that the model does not have are left out.

    Args:
        plan: the axes cross in its workload
        quick: tiny ones
    """
    base, config = plan.workload, plan.config
    counts = _FEW_COUNTS if quick else _COUNTS
    axes = {
        "pixels": [base.at(_original_size(plan, side)) for side in (_SMALL_SIDES if quick else _SIDES)],
        "steps": [replace(base, steps=steps) for steps in range(1, config.refinement.steps + 1)],
        "batch": [replace(base, batch=batch) for batch in counts],
    }
    if config.prompts.kind == "meta":
        # The number of labels, or of a caption's tokens, is fixed.
        axes["prompts"] = [replace(base, prompts=count) for count in (_FEW_PROMPTS if quick else _PROMPTS)]
    if not isinstance(config.task, Pose):
        # Crops of people form a batch.
        side = min(base.size)
        axes["windows"] = [replace(base.at((side, side)), windows=windows) for windows in counts]
    return {axis: axes[axis] for axis in AXES if axis in axes}


def _original_size(plan: Plan, side: int) -> tuple[int, int]:
    """A square input of the backbone."""
    task = plan.config.task
    if isinstance(task, Depth):
        side = max(side - _BLOCK * task.margin_blocks, _BLOCK)
    return side, side
