"""Outcomes of commands: exit codes, and the summary after processing several images."""

from collections.abc import Sequence

from metaprompts.cli.console import complain, say

OK, SOME_FAILED, BAD_INPUT, OUR_FAULT, INTERRUPTED = 0, 1, 2, 3, 130


def report_outcome(done: str, total: int, failures: Sequence[str]) -> int:
    """Print the number of images done, and one line for each failed image.

    Args:
        done: description of the completed images
        total: number of images
        failures: one message per failed image

    Returns:
        the exit code: 0; 1 if some failed and others did not; 2 if all failed
    """
    say(f"{done}\n")
    for failure in failures:
        complain(f"error: {failure}\n")
    if not failures:
        return OK
    return SOME_FAILED if len(failures) < total else BAD_INPUT
