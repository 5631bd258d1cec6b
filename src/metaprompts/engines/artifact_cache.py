"""A disk cache of converted networks, keyed by what they are built from; damaged entries are rebuilt."""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from metaprompts.errors import InputError
from metaprompts.utils.files import CACHE_VARIABLE, cache_folder, read_json, scratch_folder, write_json
from metaprompts.utils.fingerprint import file_fingerprint
from metaprompts.utils.scratch import is_scratch, remove_scratch

_LIST = "artifact.json"


def artifact(what: Mapping[str, object], build: Callable[[Path], None], folder: Path | None = None) -> Path:
    """A folder of files built from ``what``, taken from the cache if it has an intact entry.

    Networks are executed, so entries that another user may have written are not used. If two processes request an entry
    at once, each builds it in a scratch folder, and the folder of the first to finish becomes the entry.

    Args:
        what: plain values that determine the content of the files
        build: writes the files into an empty folder
        folder: the cache; by default `cache_folder`

    Raises:
        InputError: the folder cannot be written, belongs to another user, or is world-writable
    """
    place = _place(what, folder)
    cache = place.parent
    if cache.is_dir() and (why := _why_not_ours(cache)) is not None:
        raise InputError(
            f"{cache}, the cache of converted networks, {why}, so other users could replace the networks run here: set "
            f"{CACHE_VARIABLE} to another folder"
        )
    if _is_whole(place, what):
        return place
    remove_scratch(cache)
    advice = f"choose another folder with {CACHE_VARIABLE}"
    with scratch_folder(place, f"cannot write to the cache {cache}", advice) as scratch:
        build(scratch)
        files = {path.name: file_fingerprint(path) for path in sorted(scratch.iterdir())}
        write_json(scratch / _LIST, {"what": dict(what), "files": files})
        _take_place(scratch, place, what)
    return place


def is_kept(what: Mapping[str, object], folder: Path | None = None) -> bool:
    """Whether the cache has an intact entry; arguments as for `artifact`."""
    return _is_whole(_place(what, folder), what)


def has_any(folder: Path | None = None) -> bool:
    """Whether the cache holds any artifact; if not, the requested key need not be computed."""
    return any((folder or cache_folder()).glob(f"*/{_LIST}"))


def _place(what: Mapping[str, object], folder: Path | None) -> Path:
    text = json.dumps(what, sort_keys=True)
    return (folder or cache_folder()) / hashlib.sha256(text.encode()).hexdigest()[:24]


def _why_not_ours(path: Path) -> str | None:
    """Why a file or folder may have been written by other users; None if only this user can write it."""
    if not hasattr(os, "geteuid"):
        return None
    status = path.lstat()
    if status.st_uid != os.geteuid():
        return "belongs to another user"
    # The permissions of a link itself do not matter.
    if not stat.S_ISLNK(status.st_mode) and status.st_mode & stat.S_IWOTH:
        return "is world-writable"
    return None


def _take_place(scratch: Path, place: Path, what: Mapping[str, object]) -> None:
    for _ in range(2):
        try:
            scratch.rename(place)
        except OSError:
            # Another process was first, or the entry is corrupt.
            if _is_whole(place, what):
                return
            shutil.rmtree(place, ignore_errors=True)
        else:
            return
    scratch.rename(place)


def _is_whole(place: Path, what: Mapping[str, object]) -> bool:
    try:
        known = read_json(place / _LIST)
        if any(_why_not_ours(path) for path in (place.parent, place, *place.iterdir())):
            return False
        files = {path.name for path in place.iterdir() if not is_scratch(path)} - {_LIST}
        return bool(
            known["what"] == json.loads(json.dumps(dict(what)))
            and known["files"].keys() == files
            and all(file_fingerprint(place / name) == digest for name, digest in known["files"].items())
        )
    except (InputError, OSError, KeyError, TypeError, AttributeError):
        return False
