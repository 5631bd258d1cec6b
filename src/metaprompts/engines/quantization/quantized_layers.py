"""PyTorch layers with 8-bit weights and inputs, which export as QuantizeLinear and DequantizeLinear nodes.

OpenVINO's networks are quantized by NNCF. NNCF can neither quantize ONNX networks above 2 GB, nor the steps of a whole
model separately from the weights that they share.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch

# Registers the operators.
import torch.ao.quantization.fx._decomposed
import torch.nn.functional as F
from torch import Tensor, nn

from metaprompts.engines.optimized import PARTS, OptimizedModel
from metaprompts.engines.quantization.recording import Recorded
from metaprompts.engines.quantization.simulation import group_of
from metaprompts.modules.meta_prompts.layers import ResizeConv2d
from metaprompts.utils.progress import tracked
from metaprompts.utils.torch_modules import sharing_weights

_LEVELS = 255
# SmoothQuant's migration strength (Xiao et al., 2023).
_STRENGTH = 0.5
# Channels that were constant during calibration are not enlarged without limit.
_FLATTEST = 1e-3
_SMALLEST = 1e-12
_OPERATORS = torch.ops.quantized_decomposed

Layer = nn.Conv2d | nn.Linear


@dataclass
class InputStatistics:
    """The range and mean of each input channel of a layer, over all its calls.

    Attributes:
        low, high, total: (C,)
        count: number of values in each channel
    """

    low: Tensor
    high: Tensor
    total: Tensor
    count: int

    @classmethod
    def of(cls, layer: Layer, inputs: Tensor) -> Self:
        """Of one call."""
        inputs = inputs.detach()
        channels = (inputs if isinstance(layer, nn.Linear) else inputs.movedim(1, -1)).flatten(0, -2)
        return cls(channels.amin(0), channels.amax(0), channels.sum(0), len(channels))

    def add(self, other: Self) -> None:
        """Add the statistics of another call."""
        self.low, self.high = self.low.minimum(other.low), self.high.maximum(other.high)
        self.total, self.count = self.total + other.total, self.count + other.count


class QuantizedLayer(nn.Module):
    """A convolution or linear layer whose weights and inputs have 8 bits; it computes on their dequantized values.

    Weights have a scale for each output channel, inputs one range. For linear layers, SmoothQuant moves outliers of
    input channels into the weights. The bias is corrected for the mean error of the rounded weights.

    Args:
        layer: the original layer
        seen: inputs of the layer during calibration
        weight_bits: precision of the weights, 8 or 7
    """

    weight: Tensor
    scales: Tensor
    zeros: Tensor
    bias: Tensor
    smoothing: Tensor | None

    def __init__(self, layer: Layer, seen: InputStatistics, weight_bits: int) -> None:
        super().__init__()
        self._compute, self._options = _function(layer)
        # A product needs the transposed weight, as stored, for ONNX Runtime to compute it in 8 bits.
        self._axis = 0 if isinstance(layer, nn.Conv2d) else 1
        smoothing = _smoothing(layer, seen)
        weight = layer.weight.detach()
        if smoothing is not None:
            weight = (weight / smoothing).T.contiguous()
        shape = [-1 if axis == self._axis else 1 for axis in range(weight.dim())]
        others = [axis for axis in range(weight.dim()) if axis != self._axis]
        self._most = 2 ** (weight_bits - 1) - 1
        scales = (weight.abs().amax(others) / self._most).clamp_min(_SMALLEST)
        rounded = (weight / scales.view(shape)).round()
        self._scale, self._zero = _affine(seen, smoothing)
        self.register_buffer("smoothing", smoothing)
        self.register_buffer("weight", rounded.to(torch.int8))
        self.register_buffer("scales", scales)
        self.register_buffer("zeros", torch.zeros_like(scales, dtype=torch.int8))
        mean = seen.total / seen.count * (1 if smoothing is None else smoothing)
        lost = _mean_output(layer, weight - rounded * scales.view(shape), mean)
        self.register_buffer("bias", lost if layer.bias is None else lost + layer.bias.detach())

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute as the original layer does."""
        if self.smoothing is not None:
            inputs = inputs * self.smoothing
        affine = (self._scale, self._zero, 0, _LEVELS, torch.uint8)
        inputs = _OPERATORS.dequantize_per_tensor(_OPERATORS.quantize_per_tensor(inputs, *affine), *affine)
        weight = _OPERATORS.dequantize_per_channel(
            self.weight, self.scales, self.zeros, self._axis, -self._most, self._most, torch.int8
        )
        return self._compute(inputs, weight, self.bias, **self._options)


def input_statistics(prepared: OptimizedModel, recorded: Sequence[Recorded]) -> dict[str, InputStatistics]:
    """Path -> statistics of the inputs of each layer of the parts on recorded samples.

    Args:
        prepared: the prepared model, in float32
        recorded: the samples
    """
    found: dict[str, InputStatistics] = {}

    def saw(path: str, layer: Layer, inputs: tuple[Tensor, ...]) -> None:
        seen = InputStatistics.of(layer, inputs[0])
        found[path].add(seen) if path in found else found.update({path: seen})

    with ExitStack() as hooks, torch.no_grad():
        for path, layer in _layers(prepared):
            hooks.enter_context(layer.register_forward_pre_hook(partial(saw, path)))
        for sample in tracked(recorded, what="ranges of activations"):
            for part in PARTS:
                sample.repeat(prepared, part)
    return found


def with_quantized_layers(
    prepared: OptimizedModel,
    statistics: dict[str, InputStatistics],
    unquantized: Collection[tuple[str, str]],
    weight_bits: int,
) -> OptimizedModel:
    """A copy with quantized layers; all other tensors are shared.

    Args:
        prepared: the prepared model, in float32
        statistics: see `input_statistics`
        unquantized: (part, group) of the layers to leave out
        weight_bits: precision of the weights, 8 or 7
    """
    copied = sharing_weights(prepared)
    for path, layer in _layers(copied):
        part, _, within = path.partition(".")
        if path in statistics and (part, group_of(within)) not in unquantized:
            parent, _, name = path.rpartition(".")
            quantized: nn.Module = QuantizedLayer(layer, statistics[path], weight_bits)
            if isinstance(layer, ResizeConv2d):
                quantized = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), quantized)
            setattr(copied.get_submodule(parent), name, quantized)
    return copied


def _layers(prepared: OptimizedModel) -> list[tuple[str, Layer]]:
    """All layers of the parts that can be quantized, with their paths."""
    return [
        (f"{part}.{path}", layer)
        for part in PARTS
        for path, layer in getattr(prepared, part).named_modules()
        # Other subclasses may compute something else.
        if type(layer) in (nn.Linear, nn.Conv2d, ResizeConv2d) and getattr(layer, "groups", 1) == 1
    ]


def _function(layer: Layer) -> tuple[Callable[..., Tensor], dict[str, Any]]:
    """The function of inputs, weight and bias that a layer computes, and its keyword arguments."""
    if isinstance(layer, nn.Linear):
        return lambda inputs, weight, bias: inputs @ weight + bias, {}
    return F.conv2d, {name: getattr(layer, name) for name in ("stride", "padding", "dilation")}


def _smoothing(layer: Layer, seen: InputStatistics) -> Tensor | None:
    """The factor (C,) of each input channel of a linear layer, by which its weights are divided; None for others."""
    if not isinstance(layer, nn.Linear):
        return None
    inputs = seen.high.maximum(-seen.low)
    inputs = inputs.clamp_min(max(_FLATTEST * float(inputs.max()), _SMALLEST))
    weights = layer.weight.detach().abs().amax(0).clamp_min(_SMALLEST)
    return weights ** (1 - _STRENGTH) / inputs**_STRENGTH


def _affine(seen: InputStatistics, smoothing: Tensor | None) -> tuple[float, int]:
    """Scale and zero point of inputs; zero is represented exactly, because convolutions pad with it."""
    factor = 1 if smoothing is None else smoothing
    low, high = min(float((seen.low * factor).min()), 0.0), max(float((seen.high * factor).max()), 0.0)
    scale = max(high - low, _SMALLEST) / _LEVELS
    return scale, round(-low / scale)


def _mean_output(layer: Layer, weight: Tensor, mean: Tensor) -> Tensor:
    """The mean of a layer's output channels for constant inputs, away from borders; the bias is not added.

    Args:
        layer: the layer
        weight: weights that replace those of the layer; for a linear layer (C, outputs)
        mean: (C,), the inputs
    """
    if isinstance(layer, nn.Linear):
        return mean @ weight
    return weight.sum((2, 3)) @ mean
