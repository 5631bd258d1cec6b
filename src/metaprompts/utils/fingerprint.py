"""Fingerprints of weights and files."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from metaprompts.errors import InputError

_DIGITS = 16


def tensors_fingerprint(
    tensors: Iterable[tuple[str, Tensor]],
    *,
    dtype: torch.dtype = torch.float32,
    ends: int | None = None,
    more: str = "",
) -> str:
    """Sixteen hexadecimal digits that change with any tensor's name, shape or values.

    Args:
        tensors: names and tensors, on any device
        dtype: precision of the hashed values, so that the same weights can have the same fingerprint in files of
            different precision
        ends: number of values to hash at the beginning and at the end of each tensor; None for all
        more: further text to hash
    """
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        numbers = tensor.detach().flatten()
        if ends is not None:
            numbers = torch.cat([numbers[:ends], numbers[-ends:]])
        # Viewed as bytes, because NumPy lacks some dtypes.
        digest.update(numbers.to("cpu", dtype).contiguous().view(torch.uint8).numpy().data)
    digest.update(more.encode())
    return digest.hexdigest()[:_DIGITS]


def named_tensors(prefix: str, module: nn.Module | None) -> list[tuple[str, Tensor]]:
    """A module's tensors, sorted by name, with a prefix before each name; empty for None."""
    tensors = {} if module is None else module.state_dict()
    return [(f"{prefix}.{name}", tensor) for name, tensor in sorted(tensors.items())]


def file_fingerprint(*paths: Path) -> str:
    """Sixteen hexadecimal digits that identify the content of files.

    Raises:
        InputError: a file cannot be read
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
    return digest.hexdigest()[:_DIGITS]


def files_stamp(files: Mapping[str, Path]) -> str:
    """Sixteen hexadecimal digits that change if a file is replaced, rewritten or removed.

    Args:
        files: files by name, identified by size and modification time, without being read
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
