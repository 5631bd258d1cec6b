"""Reading, checking and writing tensors by name, without holding a big file twice."""

import json
import pickle
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from metaprompts.errors import InputError
from metaprompts.files import write_whole

_SAFETENSORS_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a .safetensors file or a PyTorch checkpoint; the tensors stay on disk until they are used.

    A checkpoint may hold its tensors under ``state_dict`` or ``model``. It is read with ``weights_only=True``: a file
    that would run code is refused.

    Args:
        path: a .safetensors, .pth, .pt, .ckpt or .bin file

    Returns:
        name -> tensor, as the file names them

    Raises:
        InputError: the file is missing, damaged, holds code, or holds no tensors
    """
    if not path.is_file():
        raise InputError(f"no weights at {path}: give a .safetensors, .pth or .ckpt file")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is no readable .safetensors file ({error}): copy or download it again") from error
    return state_dict_in(_read_pickle(path), path)


def state_dict_in(content: Any, origin: object) -> dict[str, Tensor]:
    """Take the tensors out of a checkpoint's content.

    Args:
        content: a state dict, or a dict that holds one under ``state_dict`` or ``model``
        origin: what to call it in an error

    Raises:
        InputError: there are no tensors in it
    """
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {}
    if isinstance(content, Mapping):
        tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f"{origin} holds no tensors: expected a state dict, bare or under 'state_dict' or 'model'")
    return tensors


def _read_pickle(path: Path) -> Any:
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            # Files from before PyTorch 1.6 are no archives and cannot be mapped.
            if "mmap" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = "it holds Python objects or code, not only tensors" if "WeightsUnpickler" in str(error) or (
            "Unsupported" in str(error) or "GLOBAL" in str(error)
        ) else "it is damaged or no checkpoint"
        raise InputError(f"{path} was refused: {reason}; wanted a checkpoint of tensors or a .safetensors file") from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"{path} is no readable PyTorch checkpoint: copy or download it again") from error


def load_tensors(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    origin: object,
    spell: Callable[[str], str] = lambda name: name,
    unused: Callable[[str], bool] = lambda name: False,
    required: Iterable[str] = (),
) -> None:
    """Put tensors into a module that may still be on the meta device, taking them as they are where types agree.

    Args:
        module: the module to fill; afterwards it shares memory with ``tensors``
        tensors: name -> tensor, in the names of the file
        origin: what to call the tensors in an error
        spell: the module's own name of a tensor -> the file's name of it
        unused: which of the file's names are known to be of no use here
        required: names that the file must have although the module does not take them

    Raises:
        InputError: one line with every missing, unexpected and mis-shaped name, or every tensor that is not finite
    """
    wanted = module.state_dict(keep_vars=True)
    names = {name: spell(name) for name in wanted}
    problems = _disagreements(wanted, tensors, names, unused, required)
    if problems:
        raise InputError(f"{origin} does not fit this model: {'; '.join(problems)}")
    broken = [names[name] for name in wanted if not is_finite(tensors[names[name]])]
    if broken:
        raise InputError(f"{origin} holds NaN or infinity in {', '.join(broken)}: the file is damaged or diverged")
    fitting = {
        name: tensors[names[name]].reshape(tensor.shape).to(tensor.dtype) for name, tensor in wanted.items()
    }
    trainable = {name for name, tensor in wanted.items() if tensor.requires_grad}
    module.load_state_dict(fitting, strict=True, assign=True)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in trainable)


def _disagreements(
    wanted: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    names: Mapping[str, str],
    unused: Callable[[str], bool],
    required: Iterable[str],
) -> list[str]:
    expected = set(names.values())
    missing = sorted((expected | set(required)) - tensors.keys())
    unexpected = sorted(name for name in tensors.keys() - expected if not unused(name))
    shapes = [
        f"{names[name]} is {_shape(tensors[names[name]])}, wanted {_shape(tensor)}"
        for name, tensor in wanted.items()
        if names[name] in tensors and not _same_shape(tensors[names[name]], tensor)
    ]
    listed = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    return [f"{len(found)} {kind}: {', '.join(found)}" for kind, found in listed.items() if found]


def _same_shape(tensor: Tensor, wanted: Tensor) -> bool:
    """Equal shapes, or a 1x1 convolution for a linear layer, as in older VAE files."""
    shape = tuple(tensor.shape)
    return shape == tuple(wanted.shape) or (wanted.ndim == 2 and shape == (*wanted.shape, 1, 1))


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def is_finite(tensor: Tensor) -> bool:
    """Whether no element is NaN or infinite; needs no memory of the tensor's size."""
    if not tensor.is_floating_point():
        return True
    # A double sum of finite floats stays finite; NaN and infinity survive it.
    return bool(torch.isfinite(tensor.sum(dtype=torch.float64)))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a .safetensors file, whole or not at all, one tensor in memory at a time.

    safetensors' own writer first makes a copy of all tensors, which for a Stable Diffusion model is 3.7 GB.

    Args:
        path: where to write
        tensors: name -> tensor on any device
        metadata: strings for the file's header

    Raises:
        InputError: the file cannot be written
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    position = 0
    for name, tensor in tensors.items():
        end = position + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _SAFETENSORS_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    try:
        with write_whole(path) as scratch, scratch.open("wb") as file:
            for part in chain([len(text).to_bytes(8, "little"), text], _raw(tensors.values())):
                file.write(part)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; nothing there was changed") from error


def _raw(tensors: Iterable[Tensor]) -> Iterable[memoryview]:
    for tensor in tensors:
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        yield memoryview(flat.view(torch.uint8).numpy())
