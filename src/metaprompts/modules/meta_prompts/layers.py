"""Upsampling layers that rearrangement and the heads share."""

import torch.nn.functional as F
from torch import Tensor, nn

from metaprompts.modules.upsampling import Upsampling


class ResizeConv2d(nn.Conv2d):
    """Double height and width bilinearly, then convolve 3x3.

    A transposed convolution reaches neighboring output pixels with different weights, which causes checkerboard
    artifacts in smooth predictions (Odena et al., "Deconvolution and Checkerboard Artifacts", 2016); this layer treats
    all pixels equally.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, filters, 2 h, 2 w)."""
        return super().forward(F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False))


def upsample_stack(
    channels: int, filters: int, *, doublings: int, kernel: int, upsample: Upsampling = "transposed"
) -> nn.Sequential:
    """Convolutions that each double height and width, each followed by batch norm and ReLU.

    Args:
        channels: channels of the input
        filters: number of filters in every layer's output
        doublings: number of layers
        kernel: kernel size of transposed convolutions: 2 (no overlap) or 4
        upsample: how a layer doubles its input; released models are "transposed"

    Returns:
        a module (B, channels, h, w) -> (B, filters, h * 2^doublings, w * 2^doublings)
    """
    layers: list[nn.Module] = []
    for layer in range(doublings):
        width = channels if layer == 0 else filters
        if upsample == "resize":
            doubled: nn.Module = ResizeConv2d(width, filters, 3, padding=1, bias=False)
        else:
            doubled = nn.ConvTranspose2d(width, filters, kernel, stride=2, padding=(kernel - 2) // 2, bias=False)
        layers += [doubled, nn.BatchNorm2d(filters), nn.ReLU()]
    return nn.Sequential(*layers)
