"""Names of unfinished files and folders, which include the owner, so that only those of dead processes are removed."""

import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

LOCK_FILE = ".metaprompts-lock"
_OWNER = re.compile(r"([0-9a-f]{8})-([0-9a-f]+)-([0-9a-f]+)")
_NAME = re.compile(r"\..*-(?P<owner>[0-9a-f]{8}-[0-9a-f]+-[0-9a-f]+)-[0-9a-f]{8}(\.\w+)?")
_LONGEST_STEM, _LONGEST_SUFFIX = 40, 16
# Processes on other machines cannot be checked, but a process that is still writing keeps changing its file.
_FOREIGN_AGE_S = 3600.0


def scratch_next_to(path: Path) -> Path:
    """A unique name next to ``path``, with the same suffix; nothing is created."""
    # Image writers choose the format by the suffix.
    suffix = path.suffix if len(path.suffix) <= _LONGEST_SUFFIX else ""
    return path.with_name(f".{path.stem[:_LONGEST_STEM]}-{owner()}-{secrets.token_hex(4)}{suffix}")


def is_scratch(path: Path) -> bool:
    """Whether a file has a name that only unfinished files and locks have."""
    return path.name == LOCK_FILE or _NAME.fullmatch(path.name) is not None


def remove_scratch(folder: Path, *, deep: bool = False) -> None:
    """Remove leftovers of killed processes in a folder; files being written by others are kept.

    Args:
        folder: the folder to search; it may be missing
        deep: also search subfolders
    """
    for path in list(folder.rglob(".*") if deep else folder.glob(".*")):
        match = _NAME.fullmatch(path.name)
        if match is None or _may_be_written(path, match["owner"]):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def owner() -> str:
    """The id of this process in scratch file names: machine, process id, and start time."""
    pid = os.getpid()
    return f"{_machine()}-{pid:x}-{_birth(pid) or 0:x}"


def is_alive(found: str) -> bool | None:
    """Whether the process with an `owner` id still runs; None if it is on another machine."""
    match = _OWNER.fullmatch(found)
    if match is None or match[1] != _machine():
        return None
    number = int(match[2], 16)
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    now = _birth(number)
    # Process ids are reused.
    return now is None or now == int(match[3], 16)


def _may_be_written(path: Path, found: str) -> bool:
    alive = is_alive(found)
    if alive is not None:
        return alive
    try:
        return time.time() - path.stat().st_mtime < _FOREIGN_AGE_S
    except OSError:
        return True


@cache
def _machine() -> str:
    """An id of this machine: containers may share a host name, but not a process namespace."""
    facts = [socket.gethostname()]
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with suppress(OSError):
        facts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256(" ".join(facts).encode()).hexdigest()[:8]


def _birth(pid: int) -> int | None:
    """Start time of a process in ticks since boot; -1 if the process has ended, None if unknown."""
    try:
        # The name in parentheses may contain any character.
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return -1 if state in "ZX" else int(fields[18])
