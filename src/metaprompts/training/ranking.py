"""Compare validations."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

# The first metric decides; each following metric only breaks ties.
_METRICS = {
    "segmentation": ("mIoU", "mAcc", "aAcc"),
    "depth": ("rmse", "rel", "d1"),
    "pose": ("AP", "AP50", "pck@0.2"),
}
_LOWER_IS_BETTER = ("rmse", "rel")


def main_metric(task: str) -> str:
    """Name of the metric that decides first between validations of a task."""
    return _METRICS[task][0]


def is_as_good(task: str, new: Mapping[str, Any], best: Mapping[str, Any] | None) -> bool:
    """Whether a later validation replaces the best one so far.

    Ties are broken by the task's next metric. If all metrics tie, the later validation is kept: it was trained longer,
    and a first validation with AP 0 must not stay the best forever.

    Args:
        task: name of the task
        new: scores of the later validation
        best: scores of the best one so far; None if there is none

    Returns:
        True unless ``best`` is better; nan is worse than any number
    """
    return best is None or _rank(task, new) >= _rank(task, best)


def validations_since_best(task: str, validations: Sequence[Mapping[str, Any]]) -> int:
    """Number of validations since the main metric last improved on its best value.

    Args:
        task: name of the task
        validations: scores, first to last; nan is better than nothing
    """
    best, since = -math.inf, 0
    for scores in validations:
        value = _rank(task, scores)[0]
        best, since = (value, 0) if value > best else (best, since + 1)
    return since


def is_undefined(task: str, scores: Mapping[str, Any]) -> bool:
    """Whether the main metric is undefined: nan, or COCO's -1 if there is nothing to find."""
    value = scores.get(main_metric(task))
    return value is None or math.isnan(value) or value < 0


def _rank(task: str, scores: Mapping[str, Any]) -> tuple[float, ...]:
    values = ((name, scores.get(name)) for name in _METRICS[task])
    return tuple(
        -math.inf if value is None or math.isnan(value) else -value if name in _LOWER_IS_BETTER else value
        for name, value in values
    )
