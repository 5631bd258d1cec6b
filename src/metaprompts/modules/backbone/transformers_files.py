"""Find, check and load the weights of transformers' networks, without network access or downloads by transformers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from metaprompts.errors import InputError
from metaprompts.modules.backbone.weight_files import check_weight_files, has_any
from metaprompts.utils.hub import hub_folder, without_logging, without_progress_bars
from metaprompts.utils.tensor_files import is_finite

_HALF = "fp16"
_WEIGHTS = (
    *("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model-*-of-*.bin", "pytorch_model.bin.index.json"),
)
_HALF_WEIGHTS = (
    *(f"model.{_HALF}.safetensors", f"model.{_HALF}-*-of-*.safetensors", f"model.safetensors.index.{_HALF}.json"),
    *(f"pytorch_model.{_HALF}.bin", f"pytorch_model.{_HALF}-*-of-*.bin", f"pytorch_model.bin.index.{_HALF}.json"),
)


def download(source: str, part: str, others: Sequence[str]) -> Path:
    """Download a network, preferring a single .safetensors file, to the cache; returns the repository's folder.

    Args:
        source: hub id
        part: folder of the network in the repository, with a slash at its end; "" for the repository itself
        others: patterns of other files

    Raises:
        InputError: the repository does not exist, or there is no network and nothing in the cache
    """
    folder = hub_folder(source, [*others, f"{part}config.json", f"{part}{_WEIGHTS[0]}"])
    if not has_any(folder / part, _WEIGHTS):
        hub_folder(source, [f"{part}{name}" for name in (*_WEIGHTS, *_HALF_WEIGHTS)])
    return folder


def load_network(kind: Any, folder: Path, what: str, build: Callable[[], nn.Module], **options: Any) -> Any:
    """Load a network in float32 on the CPU, in evaluation mode and frozen.

    Args:
        kind: the network's class in transformers
        folder: folder of its files
        what: name of the network, for errors
        build: builds the network of config.json without weights, to check the files' sizes before memory is allocated
        options: further options of ``from_pretrained``

    Returns:
        the network, and the names of tensors that the files lack

    Raises:
        InputError: the files are missing or damaged, or hold non-finite weights
    """
    only_half = has_any(folder, _HALF_WEIGHTS) and not has_any(folder, _WEIGHTS)
    options |= {"local_files_only": True, "variant": _HALF if only_half else None}
    loaded: Any
    try:
        check_weight_files(build, folder.iterdir())
        with without_progress_bars(), without_logging("transformers"):
            loaded = kind.from_pretrained(folder, dtype=torch.float32, output_loading_info=True, **options)
    except Exception as error:  # transformers, safetensors and pickle raise their own error types
        raise InputError(f"{what} cannot be loaded: {' '.join(str(error).split())}") from error
    network, report = loaded
    if broken := [name for name, tensor in network.state_dict().items() if not is_finite(tensor)]:
        raise InputError(f"{folder} holds NaN or infinity in {', '.join(broken)}: copy or download it again")
    return network.eval().requires_grad_(False), sorted(map(str, report["missing_keys"]))


def check_complete(missing: Sequence[str], what: str) -> None:
    """Check that no tensor is missing; transformers only warns about these, and leaves them random.

    Raises:
        InputError: tensors are missing
    """
    if missing:
        raise InputError(f"{what} lacks {len(missing)} tensors: {', '.join(missing)}")
