"""Find weight files, and check them before memory is allocated."""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import nn

from metaprompts.errors import InputError
from metaprompts.utils.tensor_files import read_tensors


def has_any(folder: Path, patterns: Iterable[str]) -> bool:
    """Whether a folder has a file that matches one of the patterns."""
    return any(True for pattern in patterns for _ in folder.glob(pattern))


def check_weight_files(build: Callable[[], nn.Module], files: Iterable[Path]) -> None:
    """Check that .safetensors and .bin files are large enough for a network, and that .bin files load safely.

    Args:
        build: builds the network that config.json describes; called on the meta device
        files: the folder's files; others are ignored

    Raises:
        InputError: the files are too small, or a .bin file is damaged or holds more than tensors
    """
    with torch.device("meta"):
        network = build()
    numbers = sum(tensor.numel() for tensor in network.state_dict().values())
    weights = [path for path in files if path.suffix in (".safetensors", ".bin")]
    size = sum(path.stat().st_size for path in weights)
    if weights and numbers > size:
        raise InputError(
            f"config.json describes a network of {numbers} parameters, but its files have only {size} bytes"
        )
    for path in weights:
        # A view that repeats a single number would be counted at full size.
        if path.suffix == ".bin":
            read_tensors(path)
