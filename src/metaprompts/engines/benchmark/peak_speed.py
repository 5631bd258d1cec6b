"""The machine's peak speed: the best rate of multiplications that the installed libraries reach."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from metaprompts.engines.benchmark.instrumented import seconds_of
from metaprompts.engines.factory import installed
from metaprompts.utils.system import cpu_flags
from metaprompts.utils.telemetry import switch_off_telemetry

COMPUTES: Mapping[str, str] = {"w8a16": "fp32", "w8a8": "int8"}
"""Precision of an engine -> the precision that it multiplies in, if its name differs."""

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
_TRIALS = 4
# The convolution has side / 8 channels on maps of this side.
_MAP, _SIDE_OF_CHANNELS = 64, 8


class PeakSpeed:
    """Measures matrix products and 3x3 convolutions of every installed library, and keeps the best rates.

    Args:
        device: compute device
        side: side of the matrices

    Attributes:
        best: precision ("fp32", "bf16", "int8"; on a GPU "fp16") -> operations per second, so far
    """

    def __init__(self, device: torch.device, side: int) -> None:
        self.best: dict[str, float] = {}
        channels = max(1, side // _SIDE_OF_CHANNELS)
        self._flops = {"product": 2.0 * side**3, "convolution": 2.0 * 9 * (channels * _MAP) ** 2}
        self._kernels = list(_torch_kernels(device, side, channels))
        if device.type == "cpu" and installed("openvino"):
            self._kernels += _openvino_kernels(side, channels)

    def measure(self) -> None:
        """Measure all kernels a few times."""
        for precision, kind, work in self._kernels:
            seconds = min(seconds_of(work)[1] for _ in range(_TRIALS))
            self.raise_to(precision, self._flops[kind] / seconds)

    def raise_to(self, precision: str, speed: float) -> None:
        """Record a rate, in operations per second, that something on this machine reached."""
        self.best[precision] = max(speed, self.best.get(precision, 0.0))


_Kernel = tuple[str, str, Callable[[], Any]]
"""Precision, kind, and the work."""


def _torch_kernels(device: torch.device, side: int, channels: int) -> Iterable[_Kernel]:
    for precision, dtype in _TYPES.items():
        if device.type == "cpu" and precision in _without(cpu_flags()):
            continue
        left, right = torch.ones(2, side, side, dtype=dtype, device=device)
        yield precision, "product", partial(torch.mm, left, right)
        maps = torch.ones(1, channels, _MAP, _MAP, dtype=dtype, device=device)
        filters = torch.ones(channels, channels, 3, 3, dtype=dtype, device=device)
        yield precision, "convolution", partial(F.conv2d, maps, filters, padding=1)


def _without(flags: frozenset[str]) -> set[str]:
    """Precisions that PyTorch emulates on a CPU; a single product may then take minutes."""
    emulates = flags and not {"avx512_bf16", "amx_bf16"} & flags
    return {"fp16", "bf16"} if emulates else {"fp16"}


def _openvino_kernels(side: int, channels: int) -> Iterable[_Kernel]:
    switch_off_telemetry()
    import openvino
    from openvino import opset13 as ops

    def quantized(tensor: Any, low: float, levels: int) -> Any:
        ends = [ops.constant(np.float32(end)) for end in (low, 1.0, low, 1.0)]
        return ops.fake_quantize(tensor, *ends, levels)

    core = openvino.Core()
    shapes = {
        "product": ([side, side], [side, side]),
        "convolution": ([1, channels, _MAP, _MAP], [channels, channels, 3, 3]),
    }
    for precision, hint in _HINTS.items():
        for kind, (shape, weight_shape) in shapes.items():
            images = ops.parameter(shape, np.float32)
            weights: Any = ops.constant(_random(weight_shape))
            left: Any = images
            if precision == "int8":
                left, weights = quantized(left, 0.0, 256), quantized(weights, -1.0, 255)
            if kind == "product":
                result = ops.matmul(left, weights, False, True)
            else:
                result = ops.convolution(left, weights, [1, 1], [1, 1], [1, 1], [1, 1])
            settings = {
                "INFERENCE_PRECISION_HINT": hint,
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": str(torch.get_num_threads()),
            }
            request = core.compile_model(openvino.Model([result], [images]), "CPU", settings).create_infer_request()
            yield precision, kind, partial(request.infer, [_random(shape)], share_inputs=True, share_outputs=True)


def _random(shape: list[int]) -> NDArray[np.float32]:
    return np.random.default_rng(0).random(shape, dtype=np.float32)
