"""Folder locks: each folder has at most one writer, which holds its lock."""

import errno
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import ModuleType

from metaprompts.errors import InputError
from metaprompts.utils.files import json_line, parse_json
from metaprompts.utils.scratch import LOCK_FILE, is_alive, owner, remove_scratch

_fcntl: ModuleType | None
try:
    import fcntl as _fcntl
except ImportError:
    _fcntl = None

logger = logging.getLogger(__name__)

# POSIX locks belong to a process, which can acquire a lock that it already holds, and loses it by closing any handle of
# the file.
_HELD: set[str] = set()
_HELD_LOCK = threading.Lock()
_TRIES = 100


@contextmanager
def writing_into(folder: Path, command: str, *, deep: bool = False) -> Iterator[None]:
    """Lock a folder for writing, and remove leftovers of killed writers.

    The system frees the lock when the process ends, however it ends. It is a POSIX lock, which NFS also supports.

    Args:
        folder: created if missing; removed again if it stays empty
        command: the command that writes, which errors of other processes name
        deep: whether to also search subfolders for leftovers

    Raises:
        InputError: another process writes into the folder or a parent folder, or the folder cannot be written
    """
    made = _made(folder)
    key = os.path.realpath(folder)
    try:
        with _held_here(key, folder):
            _check_parents(key, folder)
            handle = _acquired(folder, command)
            try:
                remove_scratch(folder, deep=deep)
                yield
            finally:
                # Removed while the lock is held: a process that has just opened the file notices that it no longer
                # exists, and creates a new one.
                with suppress(OSError):
                    (folder / LOCK_FILE).unlink()
                os.close(handle)
    finally:
        for each in made:
            with suppress(OSError):
                each.rmdir()


def _made(folder: Path) -> list[Path]:
    """Create a folder, and return the newly created folders, innermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise InputError(f"cannot write to {folder}: {error.filename} is not a folder") from error
    except NotADirectoryError as error:
        raise InputError(f"cannot write to {folder}: a parent is not a folder") from error
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}") from error
    return missing


@contextmanager
def _held_here(key: str, folder: Path) -> Iterator[None]:
    with _HELD_LOCK:
        if key in _HELD:
            raise InputError(f"this process is already writing into {folder}: wait, or choose another folder")
        _HELD.add(key)
    try:
        yield
    finally:
        with _HELD_LOCK:
            _HELD.discard(key)


def _check_parents(key: str, folder: Path) -> None:
    """Check that no process except this one and its parent writes into a parent folder.

    Raises:
        InputError: another process writes into a parent folder
    """
    for parent in Path(key).parents:
        with _HELD_LOCK:
            # Closing any handle of the file would free the lock that this process holds.
            if str(parent) in _HELD:
                continue
        with suppress(OSError):
            handle = os.open(parent / LOCK_FILE, os.O_RDONLY)
            try:
                owner = _read_owner(handle)
                if not _is_of_starter(owner) and _is_held(handle, owner):
                    raise _refusal(parent, owner, inside=folder)
            finally:
                os.close(handle)


def _is_of_starter(owner: dict[str, str] | None) -> bool:
    """Whether the parent process holds a lock: ablate, for example, starts runs below its own folder."""
    return owner is not None and owner["pid"] == str(os.getppid()) and bool(is_alive(owner["owner"]))


def _is_held(handle: int, owner: dict[str, str] | None) -> bool:
    """Whether another process holds the lock of a file; does not try to acquire the lock if the holder is known."""
    alive = is_alive(owner["owner"]) if owner else None
    if _fcntl is None or alive is False:
        return bool(alive)
    try:
        _fcntl.lockf(handle, _fcntl.LOCK_SH | _fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EACCES, errno.EAGAIN) or bool(alive)
    return False


def _acquired(folder: Path, command: str) -> int:
    """Acquire the lock; returns a handle of the lock file."""
    path = folder / LOCK_FILE
    for _ in range(_TRIES):
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise InputError(f"cannot write to {folder}: {error.strerror}") from error
        try:
            _lock(handle, folder)
            if _is_still(handle, path):
                _sign(handle, command)
                return handle
        except BaseException:
            os.close(handle)
            raise
        # The previous holder has just removed it.
        os.close(handle)
    raise InputError(f"{folder} is constantly locked by other processes: choose another folder")


def _lock(handle: int, folder: Path) -> None:
    try:
        if _fcntl is None:
            raise OSError(errno.ENOSYS, "no POSIX locks")
        _fcntl.lockf(handle, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
    except OSError as error:
        owner = _read_owner(handle)
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise _refusal(folder, owner) from error
        if owner and is_alive(owner["owner"]):
            raise _refusal(folder, owner) from error
        logger.warning(
            "%s does not support locks (%s): make sure that no other process writes there", folder, error.strerror
        )


def _is_still(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


def _sign(handle: int, command: str) -> None:
    """Write the owner into the lock file; a full disk is ignored."""
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    facts = {"command": command, "pid": os.getpid(), "host": socket.gethostname(), "since": since, "owner": owner()}
    with suppress(OSError):
        # Other users may use the folder later.
        os.fchmod(handle, 0o666)
    with suppress(OSError):
        os.truncate(handle, 0)
        os.pwrite(handle, json_line(facts).encode(), 0)


def _read_owner(handle: int) -> dict[str, str] | None:
    with suppress(OSError, InputError, UnicodeDecodeError, KeyError, TypeError):
        facts = parse_json(os.pread(handle, 4096, 0).decode(), "lock")
        return {name: str(facts[name]) for name in ("command", "pid", "host", "since", "owner")}
    return None


def _refusal(folder: Path, owner: dict[str, str] | None, *, inside: Path | None = None) -> InputError:
    who = "another process"
    if owner:
        who = f"metaprompts {owner['command']} (process {owner['pid']} on {owner['host']} since {owner['since']})"
    where = folder if inside is None else f"{folder}, which contains {inside},"
    return InputError(f"{where} is being written by {who}: wait until that process ends, or choose another folder")
