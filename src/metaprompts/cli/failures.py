"""The one-line message and exit code of a failed command."""

import errno
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from metaprompts.cli.outcome import BAD_INPUT, OUR_FAULT
from metaprompts.errors import SHOWN_BY_DEBUG, InputError

_MEMORY_WORDS = (
    *("DefaultCPUAllocator", "can't allocate memory", "not enough memory", "out of memory", "bad_alloc"),
    *("Failed to allocate memory", "Cannot allocate memory"),
)
_LESS_MEMORY = {
    "train": "lower training.micro_batch_size or the size of the crops, or set backbone.gradient_checkpointing "
    "(metaprompts memory RECIPE computes the memory of a run)",
    "predict": "lower --batch-size, or pass --max-memory or --window",
    "evaluate": "lower training.val_batch_size, or give test.window (depth: test.num_windows)",
    "submit": "lower training.val_batch_size, or give test.window (depth: test.num_windows)",
    "data": "lower data.num_workers",
    "export": "use a smaller --size",
}
_CURES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "free up space in your quota",
    errno.EMFILE: "raise the limit of open files (ulimit -n), or lower data.num_workers",
    errno.ENFILE: "close programs: this machine has too many open files",
    errno.EAGAIN: "raise the limit of processes (ulimit -u), or lower data.num_workers and OMP_NUM_THREADS",
}


def error_line(error: Exception, command: str) -> tuple[str, int]:
    """The command line's message for an error.

    Args:
        error: the error that ended the command
        command: the command's name

    Returns:
        the line without a newline, and the exit code: 2 for user errors, 3 for bugs in metaprompts
    """
    if isinstance(error, InputError):
        return _flat(str(error)), BAD_INPUT
    if any(map(_is_of_memory, _chain(error))):
        cure = _LESS_MEMORY.get(command, "close other programs, or give smaller images")
        return f"out of memory ({_said(error)}): {cure} {SHOWN_BY_DEBUG}", BAD_INPUT
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        cure = f"; {_CURES[error.errno]}" if error.errno in _CURES else ""
        return f"{where}{error.strerror}{cure} {SHOWN_BY_DEBUG}", BAD_INPUT
    said, place = _from_worker(str(error)) or (f"{type(error).__name__}: {_flat(str(error))}".rstrip(": "), None)
    return f"{said}, at {place or _place(error)}; this is a bug, please report it {SHOWN_BY_DEBUG}", OUR_FAULT


def _from_worker(text: str) -> tuple[str, str] | None:
    """The last line of the worker traceback in a DataLoader's error message, and our innermost file and line."""
    _, found, trace = text.partition("Original Traceback")
    if not found:
        return None
    places = re.findall(r'File ".*?(metaprompts/[\w/]+\.py)", line (\d+)', trace)
    return trace.strip().splitlines()[-1], ":".join(places[-1]) if places else "a DataLoader worker"


def _is_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError | OSError) and any(word in str(error) for word in _MEMORY_WORDS)


def _said(error: BaseException) -> str:
    said, _ = _from_worker(str(error)) or (_flat(str(error)), None)
    return said[:160] or type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _place(error: BaseException) -> str:
    """File and line of this package's innermost frame, else of the innermost frame."""
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    ours = Path(__file__).parents[1]
    places = [(path, line) for path, line in frames if Path(path).is_relative_to(ours)] or frames
    path, line = places[-1] if places else (sys.argv[0], 0)
    shown = Path(path).relative_to(ours.parent) if Path(path).is_relative_to(ours) else Path(path)
    return f"{shown.as_posix()}:{line}"


def _flat(text: str) -> str:
    return " ".join(text.split())
