"""Short names for weights and files, by which a stored evaluation is known again."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

_DIGITS = 16


def fingerprint(model: nn.Module) -> str:
    """Sixteen hexadecimal digits that change with any weight, its name, shape or type.

    Args:
        model: on any device
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        # As bytes, because NumPy does not know every type.
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:_DIGITS]


def files_stamp(files: Mapping[str, Path]) -> str:
    """Sixteen hexadecimal digits that change when one of the files is another, written anew or gone.

    Args:
        files: by the names they go by; they are not read: their size and the time of their last change tell
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
