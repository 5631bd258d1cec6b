"""Atomic file writes, readers of user-written text files, and the cache folder."""

import codecs
import errno
import json
import math
import os
import re
import shutil
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from metaprompts.errors import InputError
from metaprompts.utils.scratch import scratch_next_to

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

CACHE_VARIABLE = "METAPROMPTS_CACHE"
_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
_DEPTH = 64
# Smaller than the smallest block that writers request.
_FULL = 2**20
_TEXT_LIMIT, _TOML_LIMIT = 2**31, 2**23
_PIECE = 2**20


def cache_folder() -> Path:
    """Folder for compiled models, captions and encodings: $METAPROMPTS_CACHE, or metaprompts/ in the user's cache."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "metaprompts"


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Yield a scratch path next to ``path``; when the block succeeds, it is renamed to ``path`` atomically.

    If the block raises, ``path`` is left as it was and the scratch file is removed. An OSError raised in the block
    counts as a failure to write ``path``.

    Args:
        path: the file's path; missing folders are created

    Raises:
        InputError: ``path`` cannot be written
    """
    scratch: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = _new_scratch(path)
        yield scratch
        take_place(scratch, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {_reason(error)}; nothing was changed") from error
    finally:
        if scratch is not None:
            scratch.unlink(missing_ok=True)
    # Flushing the folder makes the new name durable, if the platform supports it.
    with suppress(OSError):
        _flush(path.parent, os.O_RDONLY)


def take_place(scratch: Path, path: Path) -> None:
    """Flush a written file to disk and rename it to ``path``, replacing an existing file."""
    _flush(scratch, os.O_RDWR)
    scratch.replace(path)


@contextmanager
def scratch_folder(place: Path, failed: str, advice: str = "nothing there was changed") -> Iterator[Path]:
    """Yield a new folder next to ``place``; it is removed at the end unless the block has renamed it.

    Args:
        place: the final path of the folder or its files
        failed: beginning of the error message if the disk is full or not writable
        advice: end of the error message

    Raises:
        InputError: the folder cannot be written
    """
    scratch = scratch_next_to(place)
    try:
        # Created first, so that errors name this folder instead of the scratch folder.
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch.mkdir()
        yield scratch
    except InputError:
        raise
    except Exception as error:  # C++ writers raise their own errors
        failure = error if isinstance(error, OSError) else write_failure(error, place.parent)
        if failure is None:
            raise
        raise InputError(f"{failed}: {_reason(failure)}; {advice}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def write_folder_whole(folder: Path) -> Iterator[Path]:
    """Yield a scratch folder; when the block succeeds, it replaces ``folder``.

    Raises:
        InputError: the folder cannot be written
    """
    with scratch_folder(folder, f"cannot write {folder}") as scratch:
        new = scratch / "new"
        new.mkdir()
        yield new
        # A non-empty folder cannot be replaced in one step.
        former = scratch / "former"
        if folder.exists():
            folder.rename(former)
        try:
            new.rename(folder)
        except BaseException:
            if former.exists() and not folder.exists():
                former.rename(folder)
            raise


def check_writable(folder: Path) -> None:
    """Check that results can be written, before they are computed; creates nothing.

    Raises:
        InputError: ``folder`` is not a folder, or cannot be written or created
    """
    there = next(place for place in (folder / "result").absolute().parents if place.exists())
    if not there.is_dir():
        raise InputError(f"cannot write to {folder}: {there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to {folder}: this user may not write to {there}")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with write_whole(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; NaN and infinity, which JSON lacks, become null."""
    write_text(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def json_line(value: Any) -> str:
    """``value`` as one line of JSON with a line break at its end; NaN and infinity, which JSON lacks, become null."""
    return json.dumps(_finite(value), separators=(",", ":"), allow_nan=False) + "\n"


def write_image(path: Path, image: "NDArray[Any] | Image", **options: Any) -> None:
    """Write an image, or its (H, W) or (H, W, C) pixels, in the format given by the suffix, atomically."""
    from PIL.Image import Image, fromarray

    with write_whole(path) as scratch:
        (image if isinstance(image, Image) else fromarray(image)).save(scratch, **options)


def write_array(path: Path, values: "NDArray[Any]") -> Path:
    """Write numbers as a float32 .npy file, atomically; returns ``path``."""
    import numpy as np

    with write_whole(path) as scratch, scratch.open("wb") as file:
        np.save(file, values.astype(np.float32, copy=False))
    return path


def is_file(path: Path) -> bool:
    """Whether a user-given path is a file; False for names that are too long.

    Raises:
        InputError: the system reports an error
    """
    try:
        return path.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise InputError(f"cannot read {path}: {_reason(error)}") from error


def read_text(path: Path, *, at_most: int = _TEXT_LIMIT) -> str:
    """Read a text file in UTF-8, or in UTF-16 with a byte order mark; the result has no such mark, and lines end in LF.

    Args:
        path: a file or a pipe
        at_most: maximum size in bytes

    Raises:
        InputError: the path is missing, not a file, too large, in the wrong encoding or not text; the message is one
        line that names the path
    """
    try:
        with path.open("rb") as file:
            if stat.S_ISCHR(os.fstat(file.fileno()).st_mode):
                raise InputError(f"cannot read {path}: it is a device; expected a text file")
            content = _read_at_most(file, at_most + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {_reason(error)}") from error
    except ValueError as error:
        raise InputError(f"cannot read {path!r}: {error}; expected the path of a text file") from error
    if len(content) > at_most:
        raise InputError(f"{path} is larger than {at_most} bytes; expected a smaller text file")
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path} is not UTF-8 text (line {line}: {error.reason}): save it as UTF-8") from error
    if "\0" in text:
        raise InputError(f"{path} is not UTF-8 text (it has zero bytes): expected a text file")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _read_at_most(file: IO[bytes], size: int) -> bytes:
    """Read in blocks, because a single call would first allocate memory for the maximum size."""
    content = bytearray()
    while piece := file.read(min(size - len(content), _PIECE)):
        content += piece
    return bytes(content)


def read_json(path: Path) -> Any:
    """Read a JSON file; see `parse_json`.

    Raises:
        InputError: the file is missing, too large or not JSON
    """
    return parse_json(read_text(path), str(path))


def parse_json(text: str, where: str) -> Any:
    """Parse JSON that has no duplicate keys, at most 64 levels, and only strings that can be encoded.

    NaN and infinity, which Python writes, are accepted as numbers, so that callers can report which entry has them.

    Args:
        text: content of a file or a line
        where: origin of the text, for the error

    Raises:
        InputError: the text is not JSON of this form
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique)
        _check_depth(value)
        if _LONE_SURROGATE.search(text):
            # File names that are not UTF-8 are written with surrogates, and can be encoded that way.
            json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InputError(f"{where} is not valid JSON: a string has an unpaired surrogate") from error
    except RecursionError as error:
        raise InputError(f"{where} is not valid JSON: nested more than {_DEPTH} levels deep") from error
    except ValueError as error:
        raise InputError(f"{where} is not valid JSON: {error}") from error
    return value


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        InputError: the file is missing, too large or not TOML
    """
    # Parsing TOML is a hundred times slower than JSON, and TOML files are written by hand.
    return parse_toml(read_text(path, at_most=_TOML_LIMIT), str(path))


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Parse TOML of at most 64 levels.

    Args:
        text: content of a file
        where: origin of the text, for the error

    Raises:
        InputError: the text is not TOML of this form
    """
    try:
        values = tomllib.loads(text)
        _check_depth(values)
    except RecursionError as error:
        raise InputError(f"{where} is not valid TOML: nested more than {_DEPTH} levels deep") from error
    except ValueError as error:
        raise InputError(f"{where} is not valid TOML: {error}") from error
    return values


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in found if names.count(name) > 1)!r} is duplicated")
    return found


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_DEPTH):
        inner = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level = [each for values in inner for each in values if isinstance(each, dict | list)]
        if not level:
            return
    raise RecursionError


def write_failure(error: BaseException, folder: Path) -> OSError | None:
    """The system error that caused another error, for example one of a C++ writer; None if it is not a disk error.

    Args:
        error: the writer's exception
        folder: the folder that was written to
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            return cause
        cause = cause.__cause__ or cause.__context__
    with suppress(OSError):
        if shutil.disk_usage(folder).free < _FULL:
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return None


def _new_scratch(path: Path) -> Path:
    """Create an empty file with the usual permissions of a new file in its folder."""
    scratch = scratch_next_to(path)
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
        return f"{error.filename} is not a folder"
    return error.strerror or " ".join(str(error).split())


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
