"""Find the folders of a data set, or say which one is missing and what it comes from."""

from collections.abc import Sequence
from pathlib import Path

from metaprompts.errors import InputError
from metaprompts.files import is_file


def find_folder(candidates: Sequence[Path], *, what: str) -> Path:
    """Take the first folder that is there.

    Args:
        candidates: at least one; the first is the official one and is named in the error
        what: belongs there, such as "the pictures of Cityscapes' split val"

    Raises:
        InputError: none is there
    """
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise InputError(f"folder {candidates[0]} does not exist; expected {what}: correct data.root, or put them there")


def find_file(candidates: Sequence[Path], *, what: str) -> Path:
    """Take the first file that is there.

    Args:
        candidates: at least one, all named in the error
        what: is looked for, such as "the list of KITTI's training pictures"

    Raises:
        InputError: none is there
    """
    for path in candidates:
        if is_file(path):
            return path
    names = " or ".join(path.name for path in candidates)
    raise InputError(f"no {names} in {candidates[0].parent}; expected {what}: put it there, or correct data.root")
