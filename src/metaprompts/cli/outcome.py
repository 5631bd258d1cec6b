"""Outcomes of commands: exit codes, the summary after processing several images, and undefined scores."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from metaprompts.cli.console import complain, say

if TYPE_CHECKING:
    from metaprompts.tasks.base import AnyTask

OK, SOME_FAILED, BAD_INPUT, OUR_FAULT, INTERRUPTED = 0, 1, 2, 3, 130


def report_outcome(done: str, total: int, failures: Sequence[str]) -> int:
    """Print the number of images done, unless all failed, and one line for each failed image.

    Args:
        done: description of the completed images
        total: number of images
        failures: one message per failed image

    Returns:
        the exit code: 0; 1 if some failed and others did not; 2 if all failed
    """
    if len(failures) < max(1, total):
        say(f"{done}\n")
    for failure in failures:
        complain(f"error: {failure}\n")
    if not failures:
        return OK
    return SOME_FAILED if len(failures) < total else BAD_INPUT


def report_undefined(task: "AnyTask", scores: Mapping[str, Any]) -> int:
    """Warn on stderr if the main metric of a split could not be computed.

    Args:
        task: the task of the scores
        scores: scores of the split

    Returns:
        the exit code: 0, or 1 if the metric is undefined
    """
    from metaprompts.training.ranking import is_undefined, main_metric
    from metaprompts.utils.distributed_env import is_first_process

    if not is_undefined(task, scores):
        return OK
    if is_first_process():
        complain(f"error: {main_metric(task)} is undefined: {task.nothing_scored}: see metaprompts data check\n")
    return SOME_FAILED
