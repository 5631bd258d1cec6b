"""Choose the tolerance at which refinement steps may stop, on validation data."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from metaprompts.engines.factory import open_engine
from metaprompts.errors import InputError
from metaprompts.evaluation.evaluate import evaluate
from metaprompts.recipes.loader import Overrides
from metaprompts.recipes.model_recipe import load_with_recipe
from metaprompts.training.dataloaders import validation_batches, validation_split
from metaprompts.utils.files import write_json
from metaprompts.utils.progress import tracked

TOLERANCES = (0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.002, 0.001)
BISECTIONS = 5
"""Attempts between the largest good tolerance and the next larger one."""

LARGEST_LOSS = 0.005
"""Largest relative loss of the main metric."""


@dataclass(frozen=True, kw_only=True)
class StepCalibration:
    """A tolerance for ``--steps auto``.

    Attributes:
        tolerance: mean disagreement of two successive steps at which an image is finished
        metric: name of the main metric
        all_steps: the metric's value with all steps
        adaptive: the metric's value if steps stop at the tolerance
        step_counts: number of steps -> number of predictions that used that many
    """

    tolerance: float
    metric: str
    all_steps: float
    adaptive: float
    step_counts: dict[int, int]


def calibrate_steps(
    model: str | Path, overrides: Overrides = (), *, out: str | Path, recipe: str | None = None
) -> StepCalibration:
    """Find the largest tolerance that costs at most 0.5 % of the main metric, and save the model with it.

    Args:
        model: a folder written by training with training.step_decay
        overrides: recipe keys and their values, for example {"data.root": "photos"}; or words of a command line
        out: folder of the calibrated model, with step_calibration.json
        recipe: recipe name or file; None for the model's recipe.json

    Raises:
        InputError: model, recipe or data cannot be read, the steps were not all trained, or every tolerance costs more
    """
    loaded, read = load_with_recipe(Path(model), recipe, overrides)
    config, task = loaded.config, loaded.task
    if config.refinement.steps == 1 or not config.supervised_steps:
        raise InputError(
            f"{model} has {config.refinement.steps} refinement steps, "
            f"{'all' if config.supervised_steps else 'only the last of them'} trained; expected a model with several "
            "steps that was trained with training.step_decay"
        )
    read.data.check_output(Path(out))
    split = validation_split(read)
    batches = list(validation_batches(split, read))
    metric, better = next(iter(task.best_by.items()))
    fast = open_engine(loaded, engine="eager")

    def score(tolerance: float | None) -> float:
        fast.tolerance, fast.step_counts = tolerance, Counter()
        found = evaluate(fast, batches, metric_kwargs=split.metric_kwargs)[metric]
        if found is None:
            raise InputError(f"{metric} is undefined on the validation split: {task.nothing_scored}")
        return float(found)

    all_steps = score(None)

    def attempt(tolerance: float) -> StepCalibration:
        adaptive = score(tolerance)
        counts = dict(sorted(fast.step_counts.items()))
        return StepCalibration(
            tolerance=tolerance, metric=metric, all_steps=all_steps, adaptive=adaptive, step_counts=counts
        )

    found = _largest_good(attempt, 1 if better == "higher" else -1)
    if found is None:
        raise InputError(
            f"even with a tolerance of {TOLERANCES[-1]:g}, {metric} differs by more than {LARGEST_LOSS:.1%} from "
            f"{all_steps:.4f}: this model needs all its steps"
        )
    loaded.config = replace(config, step_tolerance=found.tolerance)
    loaded.save(Path(out), recipe=read.to_dict())
    write_json(Path(out) / "step_calibration.json", vars(found))
    return found


def _largest_good(attempt: Callable[[float], StepCalibration], sign: int) -> StepCalibration | None:
    """The attempt with the largest acceptable tolerance; ``sign`` is 1 if higher scores are better, else -1."""

    def is_good(found: StepCalibration) -> bool:
        return sign * (found.adaptive - found.all_steps) >= -LARGEST_LOSS * abs(found.all_steps)

    too_large = None
    for tolerance in tracked(TOLERANCES, what="trying tolerances"):
        found = attempt(tolerance)
        if is_good(found):
            break
        too_large = tolerance
    else:
        return None
    if too_large is not None:
        for _ in tracked(range(BISECTIONS), what="refining the tolerance"):
            between = attempt(math.sqrt(found.tolerance * too_large))
            found, too_large = (between, too_large) if is_good(between) else (found, between.tolerance)
    return found
