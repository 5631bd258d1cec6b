"""Fingerprints of weights and files."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from metaprompts.errors import InputError

_DIGITS = 16
_CHUNK = 2**24


def tensors_fingerprint(
    tensors: Iterable[tuple[str, Tensor]],
    *,
    dtype: torch.dtype = torch.float32,
    ends: int | None = None,
    more: str = "",
) -> str:
    """Sixteen hexadecimal digits that change with any tensor's name, shape or numbers.

    Args:
        tensors: names and tensors, on any device
        dtype: in which the numbers count: the same weights in files of different precisions can have one fingerprint
        ends: how many of the first and of the last numbers of each tensor count; None for all
        more: text that counts, too
    """
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        numbers = tensor.detach().flatten()
        if ends is not None:
            numbers = torch.cat([numbers[:ends], numbers[-ends:]])
        # As bytes, because NumPy does not know every type.
        digest.update(numbers.to("cpu", dtype).contiguous().view(torch.uint8).numpy().data)
    digest.update(more.encode())
    return digest.hexdigest()[:_DIGITS]


def named_tensors(prefix: str, module: nn.Module | None) -> list[tuple[str, Tensor]]:
    """A module's tensors by name, sorted, each name with a prefix; none of None."""
    tensors = {} if module is None else module.state_dict()
    return [(f"{prefix}.{name}", tensor) for name, tensor in sorted(tensors.items())]


def file_fingerprint(*paths: Path) -> str:
    """Sixteen hexadecimal digits of the content of files.

    Raises:
        InputError: a file cannot be read
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
    return digest.hexdigest()[:_DIGITS]


def files_stamp(files: Mapping[str, Path]) -> str:
    """Sixteen hexadecimal digits that change when one of the files is another, rewritten or gone.

    Args:
        files: by name; they are identified by size and modification time and not read
    """
    digest = hashlib.sha256()
    for name, path in files.items():
        digest.update(f"{name} {_written(path)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:_DIGITS]


def _written(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return "gone"
    return f"{found.st_size} {found.st_mtime_ns}"
