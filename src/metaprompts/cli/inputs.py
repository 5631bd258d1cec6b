"""What commands check of their input before they load and convert models, which may take minutes."""

from collections.abc import Sequence
from pathlib import Path

from metaprompts.errors import InputError


def check_exists(*paths: Path | None) -> None:
    """Check that files and folders are there; None is passed over.

    Raises:
        InputError: one is not
    """
    for path in paths:
        if path is not None and not path.expanduser().exists():
            raise InputError(f"cannot read {path}: No such file or directory")


def why_unreadable(paths: Sequence[Path]) -> list[str]:
    """Why each picture cannot be read, if none can; nothing where one can, at which the search ends."""
    from metaprompts.data.pictures import read_picture

    failures = []
    for path in paths:
        try:
            read_picture(path)
        except InputError as error:
            failures.append(str(error))
        else:
            return []
    return failures
