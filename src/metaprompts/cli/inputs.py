"""Input checks of commands before they load and convert models, which may take minutes."""

from collections.abc import Sequence
from pathlib import Path

from metaprompts.errors import InputError

_LARGE = 2**25


def check_exists(*paths: Path | None) -> None:
    """Check that files and folders exist; None is skipped.

    Raises:
        InputError: a file or folder does not exist
    """
    for path in paths:
        if path is not None and not path.expanduser().exists():
            raise InputError(f"cannot read {path}: No such file or directory")


class _LargeError(InputError):
    """The image is too large to be decoded by this check."""


def why_unreadable(paths: Sequence[Path], *, white_level: int | None = None) -> list[str]:
    """The errors of all images if none can be read; empty if at least one can.

    For a large image only the header is read: whether it fits in memory depends on the model.

    Args:
        paths: image files
        white_level: see `read_image`
    """
    from metaprompts.data.io.images import read_image

    failures = []
    for path in paths:
        try:
            read_image(path, white_level=white_level, check_size=_check_small)
        except InputError as error:
            if isinstance(error.__cause__, _LargeError):
                return []
            failures.append(str(error))
        else:
            return []
    return failures


def _check_small(width: int, height: int) -> None:
    if width * height > _LARGE:
        raise _LargeError(f"{height}x{width} pixels")
