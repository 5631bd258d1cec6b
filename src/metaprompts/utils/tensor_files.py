"""Read, check and write tensors by name, without holding a big file in memory twice."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from metaprompts.errors import InputError, one_line
from metaprompts.utils.files import is_file, write_whole
from metaprompts.utils.system import releasing_files
from metaprompts.utils.torch_archives import MAGIC, CodeError, read_archive
from metaprompts.utils.wording import listed

_SAFETENSORS_NAMES = {
    torch.complex64: "C64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}

_ALIGNMENT = 64
_LENGTH_BYTES = 8

# The tensors of a file may share memory (tied layers), but the file's size limits the memory they share.
_MOST_SHARED = 16
_NAMED_AT_MOST = 3


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a .safetensors file or a PyTorch checkpoint; the tensors stay on disk until they are used.

    A checkpoint may hold its tensors under ``state_dict`` or ``model``. Nothing named in a file is imported or run:
    settings, scores, callbacks and other objects next to the tensors are skipped, and a file that would run a function
    of the standard library is an error.

    Args:
        path: a .safetensors, .pth, .pt, .ckpt or .bin file

    Returns:
        name in the file -> tensor. Changing them does not change the file.

    Raises:
        InputError: the file is missing, damaged, contains code or no tensors, or claims tensors larger than itself
    """
    if not is_file(path):
        what = "is a folder" if path.is_dir() else "is not a file"
        raise InputError(f"no weights at {path}, which {what}: give a .safetensors, .pth or .ckpt file")
    if path.suffix == ".safetensors":
        try:
            tensors = load_file(path)
        except Exception as error:  # the header may name types and sizes that PyTorch does not support
            raise InputError(
                f"{path} is not a readable .safetensors file ({one_line(error)}): copy or download it again"
            ) from error
    else:
        tensors = state_dict_in(_read_pickle(path), path)
    _check_sizes(tensors, path)
    return tensors


def state_dict_in(content: Any, origin: object) -> dict[str, Tensor]:
    """Extract the tensors from a checkpoint's content.

    Args:
        content: a state dict, or a dict with one under ``state_dict`` or ``model``
        origin: name of the file in errors

    Raises:
        InputError: the content has no tensors, or has other objects as well
    """
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {}
    if isinstance(content, Mapping):
        tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f"{origin} holds no tensors: expected a state dict, bare or under 'state_dict' or 'model'")
    others = [f"{name} ({type(value).__name__})" for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise InputError(f"{origin} holds values that are not tensors: {', '.join(others)}; remove them")
    return tensors


def _check_sizes(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Reject views that repeat one number, and empty tensors: they can claim any size in a file of any size."""
    size = path.stat().st_size
    odd = [name for name, each in tensors.items() if each.layout != torch.strided or each.is_meta or each.is_quantized]
    if odd:
        raise InputError(
            f"{path} holds sparse, quantized or empty tensors: {listed(odd, _NAMED_AT_MOST)}; save them as dense "
            "tensors"
        )
    large = [
        name
        for name, each in tensors.items()
        if each.numel() * each.element_size() > size or max(each.shape, default=0) > size
    ]
    if large or sum(each.numel() * each.element_size() for each in tensors.values()) > _MOST_SHARED * size:
        raise InputError(
            f"{path} has {size} bytes, fewer than its declared tensors need"
            f"{f', in {listed(large, _NAMED_AT_MOST)}' if large else ''}: copy or download it again"
        )


def _read_pickle(path: Path) -> Any:
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty: copy or download it again")
    head = b""
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
        is_archive = head == MAGIC
        # Files from before PyTorch 1.6 are not archives and cannot be mapped.
        return read_archive(path) if is_archive else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the exception type depends on where the file is damaged
        found = error.args[0] if isinstance(error, CodeError) else None
        if old := re.search(r"GLOBAL ([\w.]+)", str(error)):
            found = old[1]
        if found is not None:
            raise InputError(
                f"{path} was refused: it holds a Python object or code ({found}), and loading would execute it; save "
                "its tensors alone, as .safetensors or with torch.save(state_dict)"
            ) from error
        # For files that are not pickles, PyTorch's error is unhelpful, or suggests switching off its safety check.
        reason = one_line(error)[:100] if head.startswith((b"\x80", MAGIC)) else "it lacks the file signature"
        raise InputError(
            f"{path} is damaged or not a PyTorch checkpoint ({reason}): copy or download it again"
        ) from error


@releasing_files()
def load_tensors(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    origin: object,
    rename_key: Callable[[str], str] = lambda name: name,
    unused: Callable[[str], bool] = lambda name: False,
    required: Iterable[str] = (),
) -> None:
    """Assign tensors to a module that may be on the meta device, without copies if types agree.

    Other floating-point types are converted to those of the module. All values are checked, without keeping a file's
    values in memory.

    Args:
        module: the module to fill, which shares memory with ``tensors`` afterwards
        tensors: name in the file -> tensor
        origin: name of the file in errors
        rename_key: name of a tensor in the module -> its name in the file
        unused: names in the file that are known to be unused
        required: names required in the file although the module does not use them

    Raises:
        InputError: one line with every missing, unexpected, mis-shaped and mis-typed name, or every non-finite tensor
    """
    target = module.state_dict(keep_vars=True)
    names = {name: rename_key(name) for name in target}
    if problems := mismatches(target, tensors, names, unused=unused, required=required):
        raise InputError(f"{origin} does not fit this model: {'; '.join(problems)}")
    broken = [names[name] for name in target if not is_finite(tensors[names[name]])]
    if broken:
        raise InputError(
            f"{origin} holds NaN or infinity in {', '.join(broken)}: the file is damaged, or its training run diverged"
        )
    found = {name: tensors[names[name]].detach() for name in target}
    fitting = {name: found[name].reshape(tensor.shape).to(tensor.dtype) for name, tensor in target.items()}
    # Tensors are assigned, and parameters keep their ``requires_grad``.
    module.load_state_dict(fitting, strict=True, assign=True)


def mismatches(
    target: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    names: Mapping[str, str],
    *,
    unused: Callable[[str], bool] = lambda name: False,
    required: Iterable[str] = (),
) -> list[str]:
    """Differences between a file's tensors and the expected tensors: one phrase per kind of difference, with all names.

    Args:
        target: our name -> tensor of the expected shape and type
        tensors: the file's name -> tensor
        names: our name -> the file's name
        unused: names in the file that are known to be unused
        required: names required in the file although no target tensor has them
    """
    expected = set(names.values())
    pairs = [(names[name], tensors[names[name]], tensor) for name, tensor in target.items() if names[name] in tensors]
    by_kind = {
        "missing": sorted((expected | set(required)) - tensors.keys()),
        "unexpected": sorted(name for name in tensors.keys() - expected if not unused(name)),
        "of the wrong shape": [
            f"{name} is {_shape(found)}, expected {_shape(tensor)}"
            for name, found, tensor in pairs
            if not _same_shape(found, tensor)
        ],
        "of the wrong type": [
            f"{name} is {str(found.dtype).removeprefix('torch.')}, expected a floating type"
            for name, found, tensor in pairs
            if tensor.is_floating_point() and not found.is_floating_point()
        ],
    }
    return [f"{len(found)} {kind}: {', '.join(found)}" for kind, found in by_kind.items() if found]


def _same_shape(tensor: Tensor, target: Tensor) -> bool:
    """Whether shapes are equal, or a 1x1 convolution stands for a linear layer, as in older VAE files."""
    shape = tuple(tensor.shape)
    return shape == tuple(target.shape) or (target.ndim == 2 and shape == (*target.shape, 1, 1))


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def is_finite(tensor: Tensor) -> bool:
    """Whether no element is NaN or infinite; allocates no memory in the size of the tensor."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    if tensor.element_size() == 1:
        tensor = tensor.half()
    # Minimum and maximum propagate NaN, and an infinity would be one of the two.
    return all(bool(torch.isfinite(extreme)) for extreme in torch.aminmax(tensor))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a .safetensors file atomically, with one tensor in memory at a time.

    This replaces safetensors' own ``save_file``, which aligns tensors only to 8 bytes, so that PyTorch's CPU kernels
    round differently on a mapped file: by 1e-5 m for the embedded depth model. It also rejects tensors that share
    memory; here they are written once for each name.

    Args:
        path: the output file
        tensors: name -> tensor on any device
        metadata: strings for the file's header

    Raises:
        InputError: the file cannot be written, or the format does not support a tensor's type
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in _SAFETENSORS_NAMES:
            raise InputError(f"cannot write {path}: {name} is {tensor.dtype}, which .safetensors files cannot hold")
    ordered = sorted(tensors.items(), key=_place)
    header = _header(ordered, metadata or {})
    with write_whole(path) as scratch, scratch.open("wb") as file:
        file.write(len(header).to_bytes(_LENGTH_BYTES, "little") + header)
        for _, tensor in ordered:
            file.write(_raw(tensor))


def _place(named: tuple[str, Tensor]) -> tuple[bool, int, str]:
    """A sort key that gives nearly all tensors PyTorch's own alignment in a mapped file.

    The format has no padding. Tensors whose size is a multiple of the alignment come first, so that each is aligned;
    the others follow, widest types first. On unaligned addresses PyTorch's CPU kernels round differently.
    """
    name, tensor = named
    return tensor.numel() * tensor.element_size() % _ALIGNMENT != 0, -tensor.element_size(), name


def _header(ordered: Iterable[tuple[str, Tensor]], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    position = 0
    for name, tensor in ordered:
        end = position + tensor.numel() * tensor.element_size()
        entries[name] = {
            "dtype": _SAFETENSORS_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    return text + b" " * (-(len(text) + _LENGTH_BYTES) % _ALIGNMENT)


def _raw(tensor: Tensor) -> memoryview:
    dense = tensor.detach().cpu().resolve_conj().contiguous()
    # A single element counts as dense with any stride, but only stride 1 can be viewed as bytes.
    return dense.as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy().data
