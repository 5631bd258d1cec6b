"""States of a training on disk: each appears whole or not at all, and a damaged one is passed over."""

import logging
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from metaprompts.errors import InputError
from metaprompts.files import write_whole

logger = logging.getLogger(__name__)


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values.

    Raises:
        InputError: the file cannot be written; what was there before stays
    """
    with write_whole(path) as scratch, scratch.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # PyTorch's writer hides what the system said, mostly that the disk is full.
            reason = error.__context__ or error
            raise OSError(f"{reason} (is the disk full?)") from error


def first_whole_state(paths: Iterable[Path]) -> tuple[Path, dict[str, Any]] | None:
    """Read the first state that is whole; every damaged one before it gets a warning.

    Args:
        paths: in order; those that do not exist are passed over

    Returns:
        the file and what it holds; None if there is no file

    Raises:
        InputError: there are files, and all are damaged
    """
    damaged = []
    for path in paths:
        if not path.is_file():
            continue
        try:
            _refuse_changed_bytes(path)
            return path, torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # what a damaged file makes the reader raise depends on where it is damaged
            logger.warning("%s is damaged (%s): passing over it", path, " ".join(str(error).split())[:80])
            damaged.append(path)
    if damaged:
        raise InputError(f"no checkpoint is whole: {', '.join(map(str, damaged))}; delete them to begin again")
    return None


def _refuse_changed_bytes(path: Path) -> None:
    """PyTorch writes a check sum of each of its entries, but does not look at it when it reads them."""
    with zipfile.ZipFile(path) as file:
        changed = file.testzip()
    if changed is not None:
        raise ValueError(f"{changed} has not its check sum")
