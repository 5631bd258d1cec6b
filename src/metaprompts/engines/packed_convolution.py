"""Convolutions on a CPU whose weights are reordered once, not in every call."""

import torch
from torch import Tensor, nn

# The widest layers work on the smallest maps, where reordering the weights takes as long as multiplying them. With
# fewer channels and larger maps, PyTorch's own order is as fast or faster.
_LEAST_CHANNELS = 1024

_pack = torch.ops.mkldnn._reorder_convolution_weight
_convolve = torch.ops.mkldnn._convolution_pointwise
_pack_transposed = torch.ops.mkldnn._reorder_convolution_transpose_weight
_convolve_transposed = torch.ops.mkldnn._convolution_transpose_pointwise


class PackedConvolution(nn.Module):
    """A convolution with a copy of its weights in oneDNN's own order.

    Args:
        layer: a convolution in fp32 on a CPU, transposed or not; its weights are not read again
    """

    def __init__(self, layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
        super().__init__()
        self.bias = layer.bias
        self._transposed = isinstance(layer, nn.ConvTranspose2d)
        self._sizes = [list(each) for each in (layer.padding, layer.stride, layer.dilation)]
        if isinstance(layer, nn.ConvTranspose2d):
            self._sizes.insert(1, list(layer.output_padding))
        pack = _pack_transposed if self._transposed else _pack
        # A plain attribute: tensors in this order can be neither saved nor moved.
        self._weight = (pack(layer.weight.detach(), *self._sizes, layer.groups),)
        self._groups = layer.groups

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C', h', w')."""
        convolve = _convolve_transposed if self._transposed else _convolve
        result: Tensor = convolve(features, *self._weight, self.bias, *self._sizes, self._groups, "none", [], "")
        return result.contiguous()


def pack_convolutions(module: nn.Module) -> None:
    """Replace the wide convolutions of a module in fp32 on a CPU; does nothing where PyTorch lacks oneDNN."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d | nn.ConvTranspose2d) and child.out_channels >= _LEAST_CHANNELS:
                setattr(parent, name, PackedConvolution(child))
