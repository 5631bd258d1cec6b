"""Messages about scores that could not be computed."""

from collections.abc import Mapping
from typing import Any

from metaprompts.cli.console import complain
from metaprompts.cli.outcome import OK, SOME_FAILED
from metaprompts.tasks.base import AnyTask
from metaprompts.training.ranking import is_undefined, main_metric
from metaprompts.utils.distributed_env import is_first_process


def report_undefined(task: AnyTask, scores: Mapping[str, Any]) -> int:
    """Warn on stderr if the main metric of a split could not be computed.

    Args:
        task: the task of the scores
        scores: scores of the split

    Returns:
        the exit code: 0, or 1 if the metric is undefined
    """
    if not is_undefined(task, scores):
        return OK
    if is_first_process():
        complain(f"error: {main_metric(task)} is undefined: {task.nothing_scored}: see metaprompts data check\n")
    return SOME_FAILED
