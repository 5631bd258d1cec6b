"""ONNX Runtime: runs nearly everywhere."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metaprompts.backbone.lora import sharing_weights
from metaprompts.runtime.exporting import PARTS, ConvertedParts, examples
from metaprompts.runtime.layers import replace_layers
from metaprompts.runtime.prepared import PreparedModel

if TYPE_CHECKING:
    pass


def build_onnx(prepared: PreparedModel, folder: Path) -> None:
    """Write each part as an ONNX network for any size.

    Args:
        prepared: in float32
        folder: for encode.onnx, ..., their weights beside them
    """
    # It warns of libraries that nothing here needs.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    for part, example in examples(prepared).items():
        layers = sharing_weights(getattr(prepared, part))
        replace_layers(layers, nn.AdaptiveAvgPool2d, AnySizePooling)
        with torch.no_grad():
            # Not optimized: ONNX Runtime does that, in a tenth of the time.
            program = torch.onnx.export(
                layers, example.arguments, dynamic_shapes=example.shapes, dynamo=True, verbose=False, optimize=False
            )
        assert program is not None
        program.save(folder / f"{part}.onnx", external_data=True)


class AnySizePooling(nn.Module):
    """Adaptive average pooling as two matrix products, which convert for sizes that are not known yet.

    Args:
        layer: pools to a square
    """

    def __init__(self, layer: nn.AdaptiveAvgPool2d) -> None:
        super().__init__()
        self.cells = int(layer.output_size)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """Pool features (B, C, h, w) to (B, C, cells, cells)."""
        rows = self._shares(features, features.shape[-2])
        return rows @ features @ self._shares(features, features.shape[-1]).T

    def _shares(self, like: Tensor, length: int) -> Tensor:
        """How much each pixel counts in each cell (cells, length); cell i is floor(i n / c) to ceil((i + 1) n / c)."""
        pixels = torch.arange(length, device=like.device)
        cells = torch.arange(self.cells, device=like.device)[:, None]
        first, end = cells * length // self.cells, ((cells + 1) * length + self.cells - 1) // self.cells
        inside = (pixels >= first) & (pixels < end)
        return inside.to(like.dtype) / (end - first)


class OnnxParts(ConvertedParts):
    """Networks that `build_onnx` wrote.

    Args:
        folder: where they are
        multiple: of what the sides of pictures must be multiples
        provider: "CPUExecutionProvider", "CUDAExecutionProvider"
    """

    def __init__(self, folder: Path, multiple: int, provider: str = "CPUExecutionProvider") -> None:
        import onnxruntime

        super().__init__(multiple)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        settings.log_severity_level = 3
        self._sessions: dict[str, onnxruntime.InferenceSession] = {
            part: onnxruntime.InferenceSession(folder / f"{part}.onnx", settings, providers=[provider])
            for part in PARTS
        }

    def execute(self, part: str, arrays: Sequence[NDArray[np.float32]]) -> Sequence[NDArray[np.float32]]:
        """All outputs of a part."""
        session = self._sessions[part]
        named = {each.name: array for each, array in zip(session.get_inputs(), arrays, strict=True)}
        outputs: list[NDArray[np.float32]] = session.run(None, named)
        return outputs
