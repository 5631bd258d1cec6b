"""States of a run on disk; they are written atomically, and damaged states are skipped."""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaprompts.errors import InputError
from metaprompts.utils.files import write_whole
from metaprompts.utils.tensor_files import mismatches
from metaprompts.utils.torch_archives import checked_archive

logger = logging.getLogger(__name__)


def checkpoint_path(folder: Path, step: int) -> Path:
    """The path of the checkpoint after this many steps."""
    return folder / f"{step:08d}.pt"


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first."""
    return sorted(folder.glob("[0-9]*.pt"), reverse=True)


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values.

    Raises:
        InputError: the file cannot be written; an existing file is kept
    """
    with write_whole(path) as scratch, scratch.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # PyTorch's writer hides the system error, usually a full disk.
            reason = error.__context__ or error
            raise OSError(f"{reason} (is the disk full?)") from error


def first_whole_state(paths: Iterable[Path]) -> tuple[Path, dict[str, Any]] | None:
    """Read the first intact state, with a warning for every damaged state before it.

    Args:
        paths: the files, in order; missing files are skipped

    Returns:
        the file and its content; None if no file exists

    Raises:
        InputError: all existing files are damaged
    """
    damaged = []
    for path in paths:
        if not path.is_file():
            continue
        try:
            _check_checksums(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(state, dict):
                raise ValueError(f"it holds a {type(state).__name__}")
            return path, state
        except Exception as error:  # the exception type depends on where the file is damaged
            logger.warning("%s is damaged (%s): skipped", path, " ".join(str(error).split())[:80])
            damaged.append(path)
    if damaged:
        raise InputError(f"all checkpoints are damaged: {', '.join(map(str, damaged))}; delete them to start over")
    return None


@contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Name the checkpoint in errors that the body raises while restoring it; any failure there is due to the file."""
    try:
        yield
    except Exception as error:
        text = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        raise InputError(
            f"{path} is not an intact checkpoint of this run ({' '.join(text.split())}): delete it to resume "
            "from another one"
        ) from error


def check_parts(state: Any, parts: Collection[str]) -> None:
    """Check that a state has all its parts.

    Raises:
        InputError: parts are missing; the message names all
    """
    if not isinstance(state, Mapping):
        raise InputError(f"it holds a {type(state).__name__}")
    if missing := [name for name in parts if name not in state]:
        raise InputError(f"it has no {', '.join(missing)}")


def check_tensors(found: Any, expected: Mapping[str, Tensor], part: str) -> None:
    """Check that a part of a state has exactly the expected tensors.

    Args:
        found: name -> tensor
        expected: name -> tensor of the same shape
        part: name of the part in errors

    Raises:
        InputError: tensors are missing, unexpected or of the wrong shape; the message names all of them
    """
    check_parts(found, ())
    if others := sorted(str(name) for name, value in found.items() if not isinstance(value, Tensor)):
        raise InputError(f"its {part} has values that are not tensors in {', '.join(others)}")
    if problems := mismatches(expected, found, {name: name for name in expected}):
        raise InputError(f"its {part} has {'; '.join(problems)}")


def check_moments(optimizer: Any, parameters: Mapping[Any, Tensor]) -> None:
    """Check that an optimizer's state has the moments of every parameter; missing moments would restart at zero.

    Args:
        optimizer: PyTorch's optimizer state
        parameters: key in the state -> the parameter

    Raises:
        InputError: moments are missing or of the wrong shape; the message names all parameters
    """
    check_parts(optimizer, ("state", "param_groups"))
    moments = optimizer["state"]
    check_parts(moments, ())
    if missing := [str(name) for name in parameters if not moments.get(name)]:
        raise InputError(f"its optimizer has no moments of {', '.join(missing)}")
    for name, parameter in parameters.items():
        # 8-bit moments have other names.
        if "state1" not in moments[name]:
            shaped = {key: value for key, value in moments[name].items() if key != "step"}
            check_tensors(shaped, dict.fromkeys(("exp_avg", "exp_avg_sq"), parameter), f"optimizer's {name}")
            check_parts(moments[name], ("step",))


def _check_checksums(path: Path) -> None:
    """Verify entry checksums, which PyTorch writes but does not verify when it reads."""
    with checked_archive(path) as file:
        changed = file.testzip()
    if changed is not None:
        raise ValueError(f"{changed} has the wrong checksum")
