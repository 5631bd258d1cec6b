"""Folders that appear whole or not at all."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metaprompts.errors import InputError
from metaprompts.scratch import scratch_beside


@contextmanager
def write_folder_whole(folder: Path) -> Iterator[Path]:
    """Yield a scratch folder beside ``folder``; when the block ends well, it takes the place of ``folder``.

    Raises:
        InputError: the folder cannot be written
    """
    scratch = scratch_beside(folder)
    former = scratch.with_name(f"{scratch.name}-former")
    try:
        scratch.mkdir(parents=True)
        yield scratch
        # A folder that is not empty cannot be replaced in one step.
        if folder.exists():
            folder.rename(former)
        scratch.rename(folder)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        for left in (scratch, former):
            shutil.rmtree(left, ignore_errors=True)


def fingerprint(*paths: Path) -> str:
    """A short name for the content of files.

    Raises:
        InputError: a file is missing
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            digest.update(path.read_bytes())
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
    return digest.hexdigest()[:16]
