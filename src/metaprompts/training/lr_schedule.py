"""Learning rate schedules: poly with warm-up, poly one-cycle, step decay and warmup-stable-decay."""

import math

from metaprompts.recipes.sections import Schedule


def learning_rate(step: int, *, steps: int, lr: float, schedule: Schedule) -> float:
    """The learning rate of one optimizer step.

    Args:
        step: 0 for the first
        steps: number of steps of the whole run
        lr: the schedule's peak
        schedule: shape of the schedule
    """
    if schedule.kind == "poly_one_cycle":
        # The released code counts its steps from 1.
        return poly_one_cycle(
            step + 1, top=max(round(steps * schedule.pct_start), 1), lr=lr, min_lr=schedule.min_lr, power=schedule.power
        )
    if schedule.kind == "poly":
        lr *= float((1 - step / steps) ** schedule.power)
    elif schedule.kind == "step":
        lr *= schedule.gamma ** float(sum(step >= share * steps for share in schedule.milestones))
    elif schedule.kind == "warmup_stable_decay":
        lr *= fall_factor(step, start=fall_start(steps, schedule.decay_fraction), steps=steps)
    return lr * warmup_factor(step, steps=schedule.warmup(steps), ratio=schedule.warmup_start_factor)


def poly_one_cycle(step: int, *, top: int, lr: float, min_lr: float, power: float) -> float:
    """Rise from ``min_lr`` to ``lr`` at step ``top``, then fall back in the same way (released depth code).

    Args:
        step: 1 for the first
        top: the step of the peak
        lr: learning rate at the peak
        min_lr: learning rate at both ends and afterwards
        power: exponent of the rise; below 1 it is steep at first
    """
    if step < top:
        return min_lr + (lr - min_lr) * float((step / top) ** power)
    return max(min_lr, lr - (lr - min_lr) * float((step / top - 1) ** power))


def fall_start(steps: int, fall: float) -> int:
    """The first step (counted from 0) of a decay over the last share ``fall`` of ``steps``."""
    return steps - max(round(steps * fall), 1)


def fall_factor(step: int, *, start: int, steps: int) -> float:
    """Factor 1 up to step ``start``, then half a cosine that would reach 0 at step ``steps``."""
    if step <= start:
        return 1.0
    return 0.5 + 0.5 * math.cos(math.pi * (step - start) / (steps - start))


def warmup_factor(step: int, *, steps: int, ratio: float) -> float:
    """Linear rise from ``ratio`` at step 0 to 1 at step ``steps`` (mmcv's linear warm-up)."""
    if step >= steps:
        return 1.0
    return 1 - (1 - step / steps) * (1 - ratio)


def describe_schedule(schedule: Schedule, step: int, *, steps: int, lr: float) -> str:
    """A description of the rest of a schedule: its kind, and the learning rates of the next and the last step."""
    warmup = schedule.warmup(steps)
    rates = [learning_rate(place, steps=steps, lr=lr, schedule=schedule) for place in (step, steps - 1)]
    risen = f", warm-up of {warmup}" if warmup else ""
    return (
        f"schedule {schedule.kind} over {steps} steps{risen}, learning rate {rates[0]:.2e} now and {rates[1]:.2e} at "
        "the end"
    )


def check_warmup(schedule: Schedule, steps: int) -> str | None:
    """A warning if the warm-up is at least as long as the run; else None."""
    warmup = schedule.warmup(steps)
    if warmup < steps or warmup == 0:
        return None
    highest = warmup_factor(steps - 1, steps=warmup, ratio=schedule.warmup_start_factor)
    return (
        f"schedule.warmup_steps {warmup} is not below the total of {steps} steps: the learning rate never exceeds "
        f"{highest:.0%} of optimizer.lr; pass --schedule.warmup_fraction 0.1 for a tenth of the steps"
    )
