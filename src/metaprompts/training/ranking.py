"""Compare validations."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from metaprompts.tasks.base import AnyTask


def main_metric(task: AnyTask) -> str:
    """Name of the first metric by which validations of a task are compared."""
    return next(iter(task.best_by))


def is_as_good(task: AnyTask, new: Mapping[str, Any], best: Mapping[str, Any] | None) -> bool:
    """Whether a later validation replaces the best validation so far.

    Ties are broken by the task's next metric. If all metrics tie, the later validation is kept: its model was trained
    longer, and a first validation with AP 0 must not stay the best forever.

    Args:
        task: defines which metrics decide, and which values are better
        new: scores of the later validation
        best: scores of the best validation so far; None if there is none

    Returns:
        True unless ``best`` is better; nan is worse than any number
    """
    return best is None or _rank(task, new) >= _rank(task, best)


def validations_since_best(task: AnyTask, validations: Sequence[Mapping[str, Any]]) -> int:
    """Number of validations since the main metric last improved on its best value.

    Args:
        task: defines which metrics decide, and which values are better
        validations: scores, first to last; nan is better than no validation
    """
    best, since = -math.inf, 0
    for scores in validations:
        value = _rank(task, scores)[0]
        best, since = (value, 0) if value > best else (best, since + 1)
    return since


def is_undefined(task: AnyTask, scores: Mapping[str, Any]) -> bool:
    """Whether the main metric is undefined: nan, or COCO's -1 if there is nothing to find."""
    value = scores.get(main_metric(task))
    return value is None or math.isnan(value) or value < 0


def _rank(task: AnyTask, scores: Mapping[str, Any]) -> tuple[float, ...]:
    values = ((scores.get(name), better) for name, better in task.best_by.items())
    return tuple(
        -math.inf if value is None or math.isnan(value) else -value if better == "lower" else value
        for value, better in values
    )
