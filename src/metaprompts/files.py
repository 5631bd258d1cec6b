"""Files that appear whole or not at all."""

import json
import math
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaprompts.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SCRATCH = re.compile(r"\..+-[0-9a-f]{16}(\.\w+)?")


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Yield a scratch path beside ``path``; when the block ends well, it becomes ``path`` in one step.

    If the block raises, ``path`` is left as it was and the scratch file is removed. An OSError of the block counts as
    a failure to write ``path``.

    Args:
        path: where the file shall be; missing folders are made

    Raises:
        InputError: ``path`` cannot be written
    """
    scratch: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = _scratch_beside(path)
        yield scratch
        _flush(scratch, os.O_RDWR)
        scratch.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {_reason(error)}; nothing there was changed") from error
    finally:
        if scratch is not None:
            scratch.unlink(missing_ok=True)
    # The new name itself reaches the disk with its folder, where the platform lets a folder be flushed.
    with suppress(OSError):
        _flush(path.parent, os.O_RDONLY)


def refuse_unwritable(folder: Path) -> None:
    """Find out before long work whether its results can be written in the end; nothing is made.

    Raises:
        InputError: ``folder`` is none, or it cannot be written or made
    """
    there = next(place for place in (folder / "result").absolute().parents if place.exists())
    if not there.is_dir():
        raise InputError(f"cannot write to {folder}: {there} is no folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to {folder}: this user may not write to {there}")


def is_scratch(path: Path) -> bool:
    """Whether a file has a name that only `write_whole` gives; one that stays is of a process that was killed."""
    return _SCRATCH.fullmatch(path.name) is not None


def remove_scratch(folder: Path) -> None:
    """Remove what writers that were killed have left in a folder and below; nobody may be writing there."""
    for path in folder.rglob(".*"):
        if is_scratch(path) and path.is_file():
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with write_whole(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all; NaN and infinity, which JSON lacks, become null."""
    write_text(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def json_line(value: Any) -> str:
    """``value`` as JSON without line breaks, and one at its end; NaN and infinity, which JSON lacks, become null."""
    return json.dumps(_finite(value), separators=(",", ":"), allow_nan=False) + "\n"


def write_picture(path: Path, picture: "NDArray[np.uint8]") -> None:
    """Write (H, W, 3) RGB as a picture of the kind that the suffix says, whole or not at all."""
    from PIL import Image

    with write_whole(path) as scratch:
        Image.fromarray(picture).save(scratch)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file is missing or is no JSON
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {_reason(error)}") from error
    except ValueError as error:
        raise InputError(f"{path} is no valid JSON: {error}") from error


def _scratch_beside(path: Path) -> Path:
    """Make an empty file with the rights that the umask and the folder give a new file."""
    # The suffix stays: picture writers choose the format by it.
    scratch = path.with_name(f".{path.stem[:40]}-{secrets.token_hex(8)}{path.suffix}")
    os.close(os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return scratch


def _flush(path: Path, mode: int) -> None:
    handle = os.open(path, mode)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reason(error: OSError) -> str:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"{error.filename} is no folder"
    return error.strerror or " ".join(str(error).split())


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
