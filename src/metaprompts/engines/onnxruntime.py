"""The ONNX Runtime engine, which runs almost everywhere."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metaprompts.engines.converted import ConvertedParts, examples
from metaprompts.engines.fused_layers import replace_layers
from metaprompts.engines.optimized import PARTS, OptimizedModel
from metaprompts.errors import InputError
from metaprompts.utils.torch_modules import sharing_weights


def build_onnx(prepared: OptimizedModel, folder: Path) -> None:
    """Write each part as an ONNX network that accepts any size.

    Args:
        prepared: the prepared model, in float32
        folder: output folder for encode.onnx, ... and their weights
    """
    for part, example in examples(prepared).items():
        layers = sharing_weights(getattr(prepared, part))
        replace_layers(layers, nn.AdaptiveAvgPool2d, AnySizePooling)
        if part == "encode":
            # The encoder's groups have a million values or more.
            replace_layers(layers, nn.GroupNorm, RowwiseGroupNorm)
        # Not optimized here, because ONNX Runtime optimizes on loading, in a tenth of the time.
        write_onnx(folder / f"{part}.onnx", layers, example.arguments, example.shapes, optimize=False)


@torch.no_grad()
def write_onnx(path: Path, layers: nn.Module, arguments: tuple[Any, ...], shapes: tuple[Any, ...], **more: Any) -> None:
    """Write layers as an ONNX network, with the weights in a file next to it.

    Args:
        path: the file to write
        layers: the layers
        arguments: example arguments
        shapes: for each argument, the dimensions that may vary, as torch.export expects them
        more: further options of `torch.onnx.export`
    """
    # Ignore warnings about libraries that are not needed here.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    program = torch.onnx.export(layers, arguments, dynamic_shapes=shapes, dynamo=True, verbose=False, **more)
    assert program is not None
    program.save(path, external_data=True)


class AnySizePooling(nn.Module):
    """Adaptive average pooling as two matrix products, which can be converted for unknown sizes.

    Args:
        layer: the original layer, which pools to a square
    """

    def __init__(self, layer: nn.AdaptiveAvgPool2d) -> None:
        super().__init__()
        self.cells = int(layer.output_size)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """Pool features (B, C, h, w) to (B, C, cells, cells)."""
        rows = self._shares(features, features.shape[-2])
        return rows @ features @ self._shares(features, features.shape[-1]).T

    def _shares(self, like: Tensor, length: int) -> Tensor:
        """The weight of each pixel in each cell (cells, length); cell i is floor(i n / c) to ceil((i + 1) n / c)."""
        pixels = torch.arange(length, device=like.device)
        cells = torch.arange(self.cells, device=like.device)[:, None]
        first, end = cells * length // self.cells, ((cells + 1) * length + self.cells - 1) // self.cells
        inside = (pixels >= first) & (pixels < end)
        return inside.to(like.dtype) / (end - first)


class RowwiseGroupNorm(nn.Module):
    """Group norm that averages rows first; ONNX Runtime's own accumulates sequentially and rounds each time.

    With a million numbers per group, the error of the latter, relative to double precision, was 36 times as large.

    Args:
        layer: the original layer, whose weights are shared
    """

    def __init__(self, layer: nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.eps = layer.num_groups, layer.eps
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, features: Tensor) -> Tensor:
        """Normalize features (B, C, ...)."""
        grouped = torch.unflatten(features, 1, [self.groups, -1])
        apart: Tensor = grouped - self._mean(grouped)
        normal = apart * torch.rsqrt(self._mean(apart * apart) + self.eps)
        per_channel = [-1, *[1] * (features.dim() - 2)]
        return normal.flatten(1, 2) * self.weight.view(per_channel) + self.bias.view(per_channel)

    def _mean(self, grouped: Tensor) -> Tensor:
        """The mean of each group (B, groups, 1, ...)."""
        return grouped.mean(-1, keepdim=True).mean(list(range(2, grouped.dim() - 1)), keepdim=True)


Provider = tuple[str, dict[str, Any]]
CPU: Provider = ("CPUExecutionProvider", {})


def onnx_provider(name: str | None) -> Provider:
    """The execution provider of ONNX Runtime on a device, and its options.

    Args:
        name: "cpu", "cuda", "cuda:1"; None for the CPU

    Raises:
        InputError: the device does not exist, or the installed ONNX Runtime does not support it
    """
    import onnxruntime

    kind, _, number = (name or "cpu").partition(":")
    if kind == "cpu":
        return CPU
    if kind != "cuda" or not (number or "0").isdecimal():
        raise InputError(f"engine onnx has no device {name!r}; expected cpu, cuda, or a device such as cuda:1")
    provider = "CUDAExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise InputError(
            "this ONNX Runtime supports only the CPU: install onnxruntime-gpu instead, or pass --device cpu"
        )
    # With TF32, the default, matrix products would have 10-bit mantissas.
    return provider, {"device_id": int(number or 0), "use_tf32": 0}


class OnnxParts(ConvertedParts):
    """Networks written by `build_onnx`.

    Args:
        folder: folder of the networks
        multiple: image sides must be multiples of this
        provider: see `onnx_provider`

    Raises:
        InputError: the provider cannot start
    """

    def __init__(self, folder: Path, multiple: int, provider: Provider = CPU) -> None:
        import onnxruntime

        super().__init__(multiple)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        settings.log_severity_level = 3
        self._sessions: dict[str, onnxruntime.InferenceSession] = {
            part: onnxruntime.InferenceSession(folder / f"{part}.onnx", settings, providers=[provider])
            for part in PARTS
        }
        # Without CUDA's libraries, ONNX Runtime only warns and falls back to the CPU.
        if any(provider[0] not in session.get_providers() for session in self._sessions.values()):
            raise InputError(
                "ONNX Runtime cannot use CUDA, perhaps because its libraries are missing: pass --device cpu"
            )

    def execute(self, part: str, arrays: Sequence[NDArray[np.float32]]) -> Sequence[NDArray[np.float32]]:
        """All outputs of a part."""
        session = self._sessions[part]
        named = {each.name: array for each, array in zip(session.get_inputs(), arrays, strict=True)}
        outputs: list[NDArray[np.float32]] = session.run(None, named)
        return outputs
