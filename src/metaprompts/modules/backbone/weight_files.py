"""Find, check and load the weight files of diffusers' and transformers' networks."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from metaprompts.errors import InputError, one_line
from metaprompts.utils.hub import hub_folder, without_logging, without_progress_bars
from metaprompts.utils.tensor_files import is_finite, read_tensors

_HALF = "fp16"


def weight_patterns(stem: str, suffix: str, *, half: bool = False) -> tuple[str, ...]:
    """Patterns of a network's weights, in one file or in shards with an index; "fp16" marks half precision."""
    variant = f".{_HALF}" if half else ""
    return f"{stem}{variant}.{suffix}", f"{stem}{variant}-*-of-*.{suffix}", f"{stem}.{suffix}.index{variant}.json"


_WEIGHTS, _HALF_WEIGHTS = (
    weight_patterns("model", "safetensors", half=half) + weight_patterns("pytorch_model", "bin", half=half)
    for half in (False, True)
)
TRANSFORMERS_STAGES = (_WEIGHTS[:1], _WEIGHTS + _HALF_WEIGHTS)
"""Patterns of the weights of transformers' networks, for `download`: a single .safetensors file is preferred."""


def has_any(folder: Path, patterns: Iterable[str]) -> bool:
    """Whether a folder has a file that matches one of the patterns."""
    return any(True for pattern in patterns for _ in folder.glob(pattern))


def download(source: str, parts: Sequence[str], stages: Sequence[Sequence[str]], others: Sequence[str] = ()) -> Path:
    """Download networks to the cache; returns the repository's folder.

    Args:
        source: hub id
        parts: folders of the networks in the repository, with a slash at the end; "" for the repository itself
        stages: patterns of weights; a later stage is downloaded only for parts without weights of earlier stages
        others: patterns of other files

    Raises:
        InputError: the repository does not exist, or there is no network and nothing in the cache
    """
    folder = hub_folder(source, [*others, *(part + name for part in parts for name in ("config.json", *stages[0]))])
    earlier = list(stages[0])
    for stage in stages[1:]:
        if lacking := [part for part in parts if not has_any(folder / part, earlier)]:
            hub_folder(source, [part + name for part in lacking for name in stage])
        earlier += stage
    return folder


def load_network(
    kind: Any, folder: Path, what: str, build: Callable[[], nn.Module], *, half: bool, files: str = "*", **options: Any
) -> tuple[Any, dict[str, Any]]:
    """Load a network on the CPU.

    Args:
        kind: the network's class in diffusers or transformers
        folder: folder of its files
        what: name of the network, for errors
        build: builds the network of config.json without weights, to check the files' sizes before memory is allocated
        half: whether to load the variant in half precision
        files: pattern of the weight files
        options: further options of ``from_pretrained``

    Returns:
        the network, and the library's report, in which "missing_keys" are tensors that the files lack

    Raises:
        InputError: the files are missing, damaged, too small for the network, or hold more than tensors
    """
    options |= {"local_files_only": True, "output_loading_info": True, "variant": _HALF if half else None}
    try:
        _check_files(build, folder.glob(files))
        with without_progress_bars(), without_logging("transformers"), without_logging("diffusers"):
            network, report = kind.from_pretrained(folder, **options)
    except Exception as error:  # diffusers, transformers, safetensors and pickle raise their own error types
        raise InputError(f"{what} cannot be loaded: {one_line(error)}") from error
    return network, report


def load_from_transformers(
    kind: Any, folder: Path, what: str, build: Callable[[], nn.Module], **options: Any
) -> tuple[Any, list[str]]:
    """Load a network of transformers in float32, in evaluation mode and frozen; arguments as for `load_network`.

    Returns:
        the network, and the names of tensors that the files lack

    Raises:
        InputError: see `load_network`; or weights are non-finite
    """
    half = has_any(folder, _HALF_WEIGHTS) and not has_any(folder, _WEIGHTS)
    network, report = load_network(kind, folder, what, build, half=half, dtype=torch.float32, **options)
    check_finite(network, folder)
    return network.eval().requires_grad_(False), sorted(map(str, report["missing_keys"]))


def check_complete(missing: Sequence[str], what: str) -> None:
    """Raise an error if tensors are missing; transformers only warns about these, and leaves them random."""
    if missing:
        raise InputError(f"{what} lacks {len(missing)} tensors: {', '.join(missing)}")


def check_finite(network: nn.Module, folder: Path) -> None:
    """Raise an error if the weights that were read from a folder are not finite."""
    if broken := [name for name, tensor in network.state_dict().items() if not is_finite(tensor)]:
        raise InputError(f"{folder} holds NaN or infinity in {', '.join(broken)}: copy or download it again")


def _check_files(build: Callable[[], nn.Module], files: Iterable[Path]) -> None:
    """Check that .safetensors and .bin files are large enough for a network, and that .bin files load safely."""
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
