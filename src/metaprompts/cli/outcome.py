"""How commands end: exit codes, and what those that take several pictures say."""

import sys
from collections.abc import Sequence

OK, SOME_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def tell(done: str, total: int, failures: Sequence[str]) -> int:
    """Print what was done, and a line for each picture that failed.

    Args:
        done: what was done of how many
        total: how many pictures there were
        failures: what was wrong with each

    Returns:
        the exit code: 0; 1 if some failed and others did not; 2 if all did
    """
    sys.stdout.write(f"{done}\n")
    for failure in failures:
        sys.stderr.write(f"error: {failure}\n")
    if not failures:
        return OK
    return SOME_FAILED if len(failures) < total else BAD_INPUT
