"""What a prediction costs when one thing about it changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from metaprompts.engines.benchmark.compare import Plan, convert_all
from metaprompts.engines.benchmark.engine_specs import EngineSpec
from metaprompts.engines.benchmark.flops import count_flops
from metaprompts.engines.benchmark.workload import Setting
from metaprompts.tasks import Depth, Pose

AXES: Mapping[str, str] = {
    "pixels": "pixels that the backbone sees",
    "steps": "K, steps",
    "prompts": "N, prompts",
    "batch": "B, images at once",
    "windows": "windows, one after the other",
}
"""What is changed -> what it is."""

_SIDES, _SMALL_SIDES = (256, 384, 512, 768), (64, 128)
_PROMPTS, _FEW_PROMPTS = (50, 100, 150), (4, 8)
_COUNTS, _FEW_COUNTS = (1, 2, 4), (1, 2)
_BLOCK = 64


@dataclass(frozen=True, kw_only=True)
class CostPoint:
    """What one setting costs.

    Attributes:
        setting: what was predicted
        seen: (height, width) of the images that the backbone sees
        seconds: of each prediction
        memory: bytes, see `asking.OpenedEngine.memory`
        flops: by the plain path
    """

    setting: Setting
    seen: tuple[int, int]
    seconds: Sequence[float]
    memory: Mapping[str, int]
    flops: float

    @property
    def typical_s(self) -> float:
        """The median."""
        return median(self.seconds)

    def place(self, axis: str) -> int:
        """Where it lies on an axis."""
        return self.seen[0] * self.seen[1] if axis == "pixels" else int(getattr(self.setting, axis))

    def plain(self) -> dict[str, Any]:
        """As plain values."""
        return {
            **self.setting.plain(),
            "seen": list(self.seen),
            "seconds": self.typical_s,
            "rounds_s": list(self.seconds),
            "memory_bytes": dict(self.memory),
            "flops": self.flops,
        }


@dataclass(frozen=True, kw_only=True)
class CostCurve:
    """What settings cost that differ in one thing.

    Attributes:
        contestant: by what they were predicted
        axes: what is changed -> the points, ascending
    """

    contestant: EngineSpec
    axes: Mapping[str, Sequence[CostPoint]]

    def plain(self) -> dict[str, Any]:
        """As plain values."""
        points = {axis: [point.plain() for point in points] for axis, points in self.axes.items()}
        return {"engine": self.contestant.engine, "precision": self.contestant.precision, "axes": points}


def measure_curve(plan: Plan, contestant: EngineSpec, *, quick: bool) -> CostCurve:
    """Measure all points, each once, also where axes cross.

    Args:
        plan: how
        contestant: by what to predict
        quick: a few tiny points in one process, instead of each in a fresh one

    Raises:
        InputError: the engine does not open, or its process dies
    """
    axes = settings_of_axes(plan, quick=quick)
    settings = list(dict.fromkeys(setting for of_axis in axes.values() for setting in of_axis))
    convert_all(plan, [contestant], settings)
    shared = plan.process(contestant.name) if quick else None
    points = {}
    try:
        for number, setting in enumerate(settings, 1):
            plan.on_stage(f"cost curve, point {number} of {len(settings)}")
            flops = count_flops(plan.config, setting)
            opened = plan.opened(contestant, shared, setting)
            try:
                seconds = [opened.lap().total for _ in range(plan.rounds)]
                points[setting] = CostPoint(
                    setting=setting, seen=flops.seen, seconds=seconds, memory=opened.memory(), flops=flops.total
                )
            finally:
                if shared is None:
                    opened.close()
    finally:
        if shared is not None:
            shared.close()
    return CostCurve(
        contestant=contestant,
        axes={axis: [points[setting] for setting in of_axis] for axis, of_axis in axes.items()},
    )


def settings_of_axes(plan: Plan, *, quick: bool) -> dict[str, list[Setting]]:
    """The settings on each axis; axes that the model does not have are left out.

    Args:
        plan: the axes cross in its setting
        quick: tiny ones
    """
    base, config = plan.setting, plan.config
    counts = _FEW_COUNTS if quick else _COUNTS
    axes = {
        "pixels": [base.at(_original_size(plan, side)) for side in (_SMALL_SIDES if quick else _SIDES)],
        "steps": [replace(base, steps=steps) for steps in range(1, config.refinement.steps + 1)],
        "batch": [replace(base, batch=batch) for batch in counts],
    }
    if config.prompts.kind == "meta":
        # The number of labels, and of a caption's tokens, is given.
        axes["prompts"] = [replace(base, prompts=count) for count in (_FEW_PROMPTS if quick else _PROMPTS)]
    if not isinstance(config.task, Pose):
        # Crops of people go through the model together: they are a batch.
        side = min(base.size)
        axes["windows"] = [replace(base.at((side, side)), windows=windows) for windows in counts]
    return {axis: axes[axis] for axis in AXES if axis in axes}


def _original_size(plan: Plan, side: int) -> tuple[int, int]:
    """Of an image that the backbone sees as a square."""
    task = plan.config.task
    if isinstance(task, Depth):
        side = max(side - _BLOCK * task.margin_blocks, _BLOCK)
    return side, side
