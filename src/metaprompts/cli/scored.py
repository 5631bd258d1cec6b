"""Messages about scores that could not be computed."""

from collections.abc import Mapping
from typing import Any

from metaprompts.cli.console import complain
from metaprompts.cli.outcome import OK, SOME_FAILED
from metaprompts.training.ranking import is_undefined, main_metric
from metaprompts.utils.distributed_env import is_first_process

_NOTHING = {
    "segmentation": "no pixel of the validation split has a class: see metaprompts data check",
    "depth": "no pixel of the validation split has a depth in range: see metaprompts data check",
    "pose": "no person of the validation split counts: see metaprompts data check",
}


def report_undefined(task: str, scores: Mapping[str, Any]) -> int:
    """Warn on stderr if the main metric of a split could not be computed.

    Args:
        task: name of the task
        scores: scores of the split

    Returns:
        the exit code: 0, or 1 if the metric is undefined
    """
    if not is_undefined(task, scores):
        return OK
    if is_first_process():
        complain(f"error: {main_metric(task)} is undefined: {_NOTHING[task]}\n")
    return SOME_FAILED
