"""Names of unfinished files and folders: each names its owner, so that only those of ended processes are removed."""

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
# Whether a process of another machine lives cannot be seen; one that writes changes its file all the time.
_FOREIGN_AGE_S = 3600.0


def scratch_next_to(path: Path) -> Path:
    """A unique name next to ``path``, with its suffix; nothing is created."""
    # Image writers choose the format by the suffix.
    suffix = path.suffix if len(path.suffix) <= _LONGEST_SUFFIX else ""
    return path.with_name(f".{path.stem[:_LONGEST_STEM]}-{owner()}-{secrets.token_hex(4)}{suffix}")


def is_scratch(path: Path) -> bool:
    """Whether a file has a name that only unfinished files and locks have."""
    return path.name == LOCK_FILE or _NAME.fullmatch(path.name) is not None


def remove_scratch(folder: Path, *, deep: bool = False) -> None:
    """Remove what processes that were killed have left in a folder; what another one is writing stays.

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
    """This process, as scratch files name it: machine, number, and when it began."""
    pid = os.getpid()
    return f"{_machine()}-{pid:x}-{_birth(pid) or 0:x}"


def is_alive(found: str) -> bool | None:
    """Whether the process that an `owner` is still runs; None where it is of another machine."""
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
    # Numbers of processes come again.
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
    """Containers may share a name, but then not the numbers of their processes."""
    facts = [socket.gethostname()]
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with suppress(OSError):
        facts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256(" ".join(facts).encode()).hexdigest()[:8]


def _birth(pid: int) -> int | None:
    """When a process began, in ticks since the machine did: -1 for one that has ended, None where unknown."""
    try:
        # The name in brackets may hold anything.
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return -1 if state in "ZX" else int(fields[18])
