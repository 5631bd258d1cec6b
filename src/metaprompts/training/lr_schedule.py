"""Learning rate by step: poly with warm-up, rise and fall, steps down, and hold and fall."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from metaprompts.errors import InputError
from metaprompts.utils.schema import Range, check_ranges


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Settings of the learning rate's course.

    Attributes:
        kind: "poly" (segmentation), "rise_and_fall" (depth), "step" (pose), "hold_and_fall" or "constant"
        power: exponent of poly (released: 1) or of rise and fall (released: 0.9)
        warmup_steps: all but rise and fall: steps of linear rise
        warmup_fraction: all but rise and fall: in place of warmup_steps, the rise's share of all steps, so that a short
            training leaves it, too
        warmup_ratio: all but rise and fall: share of the learning rate at the first step of the rise
        floor_lr: rise and fall: the learning rate at both ends
        rise: rise and fall: share of training spent rising. The released code rises for epochs // 2 whole epochs,
            12 of 25, so its recipes say 0.48.
        drop_at: step: shares of training after which the learning rate falls
        drop_factor: step: what it falls to each time
        fall: hold and fall: share of training, at its end, over which the learning rate falls to 0
    """

    kind: Literal["poly", "rise_and_fall", "step", "hold_and_fall", "constant"] = "constant"
    power: Annotated[float, Range(0, 100)] = 1.0
    warmup_steps: Annotated[int, Range(0, 10**9)] = 0
    warmup_fraction: Annotated[float, Range(0, 1, below=True)] | None = None
    warmup_ratio: Annotated[float, Range(0, 1000)] = 1e-6
    floor_lr: Annotated[float, Range(0, 1000)] = 0.0
    rise: Annotated[float, Range(0, 1, above=True)] = 0.5
    drop_at: tuple[Annotated[float, Range(0, 1, above=True, below=True)], ...] = ()
    drop_factor: Annotated[float, Range(0, 1000)] = 0.1
    fall: Annotated[float, Range(0, 1, above=True)] = 0.2

    def __post_init__(self) -> None:
        check_ranges(self, "schedule")
        if self.warmup_fraction is not None and self.warmup_steps:
            raise InputError(
                f"schedule.warmup_steps is {self.warmup_steps}, schedule.warmup_fraction {self.warmup_fraction:g}: "
                "give one of them, the other being 0 or none"
            )
        if self.warmup_fraction and self.kind == "rise_and_fall":
            raise InputError(
                f"schedule.warmup_fraction is {self.warmup_fraction:g}, but schedule.kind rise_and_fall has no "
                "warm-up: set it to none, and schedule.rise to the share of steps that rise"
            )

    def warmup(self, steps: int) -> int:
        """Steps of warm-up of a training of so many steps."""
        if self.kind == "rise_and_fall":
            return 0
        return self.warmup_steps if self.warmup_fraction is None else round(self.warmup_fraction * steps)

    def describe(self, step: int, *, steps: int, lr: float) -> str:
        """The rest of a course in words: what it is, and the learning rate of the next step and the last."""
        warmup = self.warmup(steps)
        rates = [learning_rate(place, steps=steps, lr=lr, schedule=self) for place in (step, steps - 1)]
        risen = f", warm-up of {warmup}" if warmup else ""
        return (
            f"schedule {self.kind} over {steps} steps{risen}, learning rate {rates[0]:.2e} now and {rates[1]:.2e} last"
        )

    def check_warmup(self, steps: int) -> str | None:
        """What is wrong with the warm-up of a training of so many steps; None if it ends before the training."""
        warmup = self.warmup(steps)
        if warmup < steps or warmup == 0:
            return None
        highest = warmup_factor(steps - 1, steps=warmup, ratio=self.warmup_ratio)
        return (
            f"schedule.warmup_steps {warmup} is as long as all {steps} steps or longer: the learning rate never gets "
            f"beyond {highest:.0%} of optimizer.lr; say --schedule.warmup_fraction 0.1 for a tenth of the steps"
        )


def learning_rate(step: int, *, steps: int, lr: float, schedule: Schedule) -> float:
    """The learning rate of one optimizer step.

    Args:
        step: 0 for the first
        steps: of the whole training
        lr: at the schedule's height
        schedule: its course
    """
    if schedule.kind == "rise_and_fall":
        # The released code counts its steps from 1.
        return rise_and_fall(
            step + 1,
            top=max(round(steps * schedule.rise), 1),
            lr=lr,
            floor_lr=schedule.floor_lr,
            power=schedule.power,
        )
    if schedule.kind == "poly":
        lr *= float((1 - step / steps) ** schedule.power)
    elif schedule.kind == "step":
        lr *= schedule.drop_factor ** float(sum(step >= share * steps for share in schedule.drop_at))
    elif schedule.kind == "hold_and_fall":
        lr *= fall_factor(step, start=fall_start(steps, schedule.fall), steps=steps)
    return lr * warmup_factor(step, steps=schedule.warmup(steps), ratio=schedule.warmup_ratio)


def rise_and_fall(step: int, *, top: int, lr: float, floor_lr: float, power: float) -> float:
    """Rise from ``floor_lr`` to ``lr`` at step ``top``, then fall back the same way (released depth code).

    Args:
        step: 1 for the first
        top: the step of the height
        lr: there
        floor_lr: at both ends, and ever after
        power: exponent of the rise; below 1 it is steep at first
    """
    if step < top:
        return floor_lr + (lr - floor_lr) * float((step / top) ** power)
    return max(floor_lr, lr - (lr - floor_lr) * float((step / top - 1) ** power))


def fall_start(steps: int, fall: float) -> int:
    """The first step of a fall over the last share ``fall`` of ``steps``; 0 is the first of all."""
    return steps - max(round(steps * fall), 1)


def fall_factor(step: int, *, start: int, steps: int) -> float:
    """1 up to step ``start``, then half a cosine that would reach 0 at step ``steps``."""
    if step <= start:
        return 1.0
    return 0.5 + 0.5 * math.cos(math.pi * (step - start) / (steps - start))


def warmup_factor(step: int, *, steps: int, ratio: float) -> float:
    """Linear rise from ``ratio`` at step 0 to 1 at step ``steps`` (mmcv's linear warm-up)."""
    if step >= steps:
        return 1.0
    return 1 - (1 - step / steps) * (1 - ratio)
