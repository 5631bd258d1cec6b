"""Simulate 8-bit layers in PyTorch."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_LEVELS = 255
# Transposed convolutions are not quantized: OpenVINO computes most of them in 16 bits all the same, ONNX Runtime in 32.
_LAYERS = frozenset([F.conv2d, F.linear])


def group_of(path: str) -> str:
    """The group of layers that a module belongs to, for example ``unet.up_blocks.3.resnets``.

    Args:
        path: the module's path within its part
    """
    names = path.removeprefix("latent.").split(".")
    if names[0] == "second":
        # A layer or stage: second.network.encoder.layer.0
        return ".".join(names[:5])
    blocks = {"_blocks": 4, "mid_block": 3}
    depth = next((depth for end, depth in blocks.items() if len(names) > 1 and names[1].endswith(end)), 2)
    return ".".join(names[:depth])


class LayerMode(TorchFunctionMode):
    """Tracks the module that is running, and passes each of its convolutions and linear layers to a function.

    Args:
        part: the modules to watch
    """

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self._part = part
        self._running: list[str] = []
        self._hooks = ExitStack()

    @property
    def group(self) -> str:
        """The group of the innermost running module."""
        return group_of(self._running[-1]) if self._running else ""

    def __enter__(self) -> Self:
        for path, module in self._part.named_modules():
            begin: Callable[..., None] = lambda module, inputs, path=path: self._running.append(path)  # noqa: E731
            self._hooks.enter_context(module.register_forward_pre_hook(begin))
            self._hooks.enter_context(module.register_forward_hook(self._end, always_call=True))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._hooks.close()

    def _end(self, *_: object) -> None:
        self._running.pop()


class FakeQuantization(LayerMode):
    """Rounds the inputs and weights of a group's layers to 8 bits: weights per output channel, inputs per tensor.

    Args:
        part: the modules to watch
        groups: groups of layers to round
        weight_bits: precision of the weights, 8 or 7
    """

    def __init__(self, part: nn.Module, groups: frozenset[str], weight_bits: int = 8) -> None:
        super().__init__(part)
        self._groups, self._weight_levels = groups, 2 ** (weight_bits - 1) - 1

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Round the arguments of a layer if it belongs to the groups, then run the layer."""
        if func in _LAYERS and self.group in self._groups:
            inputs, weight, *rest = args
            args = (_rounded(inputs), _rounded_weight(weight, self._weight_levels), *rest)
        return func(*args, **(kwargs or {}))


class Multiplications(LayerMode):
    """Counts the multiplications and weights of each group's layers, and the multiplications of everything else.

    Args:
        part: the modules to watch

    Attributes:
        layers: group -> multiplications of its convolutions and linear layers
        weights: group -> number of their weights
        others: multiplications in attention products and transposed convolutions, which are never quantized
    """

    def __init__(self, part: nn.Module) -> None:
        super().__init__(part)
        self.layers: dict[str, int] = {}
        self.weights: dict[str, int] = {}
        self.others = 0
        self._counted: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute, and count."""
        result = func(*args, **(kwargs or {}))
        if func in _LAYERS:
            weight = args[1]
            self.layers[self.group] = self.layers.get(self.group, 0) + result.numel() * weight[0].numel()
            # A layer may run several times.
            if id(weight) not in self._counted:
                self._counted.add(id(weight))
                self.weights[self.group] = self.weights.get(self.group, 0) + weight.numel()
        elif func is F.conv_transpose2d:
            inputs, weight = args[:2]
            self.others += inputs.numel() * weight[0].numel()
        elif func is F.scaled_dot_product_attention:
            query, key = args[:2]
            self.others += 2 * query.numel() * key.shape[-2]
        return result


def _rounded(tensor: Tensor) -> Tensor:
    low, high = (float(each) for each in torch.aminmax(tensor))
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / _LEVELS
    if scale == 0:
        return tensor
    return torch.fake_quantize_per_tensor_affine(tensor, scale, round(-low / scale), 0, _LEVELS)


def _rounded_weight(weight: Tensor, levels: int) -> Tensor:
    scale = (weight.detach().abs().flatten(1).amax(1) / levels).clamp_min(1e-12)
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight.detach(), scale, zero, 0, -levels, levels)
