"""Heads that enlarge a map by convolutions: depth (released code), normals, joint heatmaps (paper only)."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaprompts.modules.meta_prompts.layers import upsample_stack
from metaprompts.modules.upsampling import Upsampling

_STRIDE = 8


class DenseHead(nn.Module):
    """Predicts per-pixel values at full size from one fused map at 1/8 of the size.

    Args:
        in_channels: channels of the map
        filters: channels of the three convolutions that double the size
        width: channels of the convolutions after them
        outputs: number of values per pixel
        upsample: how the size is doubled; released models are "transposed"
    """

    def __init__(
        self, in_channels: int, *, filters: int, width: int, outputs: int, upsample: Upsampling = "transposed"
    ) -> None:
        super().__init__()
        self.enlarge = upsample_stack(in_channels, filters, doublings=3, kernel=2, upsample=upsample)
        self.convolve = nn.Sequential(nn.Conv2d(filters, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.regress = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, outputs, 3, padding=1)
        )

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Predict ``outputs`` values per pixel.

        Args:
            maps: one map (B, C, h, w) of any size
            size: (H, W) of the image, each at least 8

        Returns:
            (B, outputs, 8 * (H // 8), 8 * (W // 8))
        """
        return self.regress(self.convolve(self.enlarge(_at_latent_size(maps, size))))  # type: ignore[no-any-return]


class DepthHead(DenseHead):
    """Metric depth: one number per pixel, in (0, max_depth_m) before calibration; other arguments as for `DenseHead`.

    Args:
        max_depth_m: depth at a sigmoid output of 1, in meters
        log_scale: calibration: ln depth = log_scale * ln(uncalibrated depth) + log_shift
        log_shift: see log_scale
    """

    def __init__(
        self,
        in_channels: int,
        *,
        filters: int,
        width: int,
        max_depth_m: float,
        upsample: Upsampling = "transposed",
        log_scale: float = 1.0,
        log_shift: float = 0.0,
    ) -> None:
        super().__init__(in_channels, filters=filters, width=width, outputs=1, upsample=upsample)
        self.max_depth_m, self.log_scale, self.log_shift = max_depth_m, log_scale, log_shift

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Meters (B, 1, 8 * (H // 8), 8 * (W // 8)); arguments as for `DenseHead.forward`."""
        depth_m = torch.sigmoid(super().forward(maps, size)) * self.max_depth_m
        # Models that were never calibrated reproduce the released code's arithmetic to the last digit.
        if (self.log_scale, self.log_shift) == (1, 0):
            return depth_m
        return depth_m**self.log_scale * math.exp(self.log_shift)


class NormalsHead(DenseHead):
    """Three numbers per pixel, normalized to unit length; arguments as for `DenseHead`, without ``outputs``."""

    def __init__(self, in_channels: int, **sizes: Any) -> None:
        super().__init__(in_channels, outputs=3, **sizes)
        last = self.regress[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        # Initially all surfaces face the camera, because normalizing vectors near 0 would give unbounded gradients.
        with torch.no_grad():
            last.bias.copy_(torch.tensor([0.0, 0.0, 1.0]))

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Unit vectors (B, 3, 8 * (H // 8), 8 * (W // 8))."""
        return F.normalize(super().forward(maps, size), dim=1)


class HeatmapHead(nn.Module):
    """Predicts joint heatmaps at 1/4 of the size from a fused map at 1/8: a size-doubling and a 1x1 convolution.

    The paper shows its pose head only in a figure; width and kernel are those of SimpleBaseline (Xiao et al. 2018).

    Args:
        in_channels: channels of the map
        filters: channels of the first convolution
        joints: number of joints, J
        upsample: how the size is doubled
    """

    def __init__(self, in_channels: int, *, filters: int, joints: int, upsample: Upsampling = "transposed") -> None:
        super().__init__()
        self.enlarge = upsample_stack(in_channels, filters, doublings=1, kernel=4, upsample=upsample)
        self.score = nn.Conv2d(filters, joints, 1)
        # Heatmaps are zero almost everywhere, so the output is initialized near zero, as in SimpleBaseline.
        nn.init.normal_(self.score.weight, std=0.001)
        assert self.score.bias is not None
        nn.init.zeros_(self.score.bias)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Predict heatmaps.

        Args:
            maps: one map (B, C, h, w) of any size
            size: (H, W) of the crop, each at least 8

        Returns:
            (B, J, 2 * (H // 8), 2 * (W // 8)), about 0 to 1
        """
        return self.score(self.enlarge(_at_latent_size(maps, size)))  # type: ignore[no-any-return]


def _at_latent_size(maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    (features,) = maps
    latent_size = (size[0] // _STRIDE, size[1] // _STRIDE)
    return F.interpolate(features, size=latent_size, mode="bilinear", align_corners=False)
