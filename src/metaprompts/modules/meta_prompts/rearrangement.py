"""Prompts-guided feature rearrangement: dot products of pixels and prompts (paper section 3.2.2)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaprompts.modules.meta_prompts.layers import upsample_stack
from metaprompts.modules.upsampling import Upsampling

_GROUPS = 16
_FUSED_FILTERS = 32


def rearrange(features: Tensor, prompts: Tensor) -> Tensor:
    """Score every pixel against every meta prompt.

    Args:
        features: (B, D, h, w)
        prompts: (B, N, D)

    Returns:
        (B, N, h, w)
    """
    return torch.einsum("bdhw,bnd->bnhw", features, prompts)


class LevelRearrangement(nn.Module):
    """Rearrange each level of the pyramid separately, at twice the level's size (released segmentation model).

    Args:
        pyramid_channels: C_l of each level, finest first
        prompt_channels: width of the prompts, D
        enabled: if False, pass on the projected features without the dot product (the paper's ablation)
    """

    def __init__(self, pyramid_channels: Sequence[int], prompt_channels: int, *, enabled: bool = True) -> None:
        super().__init__()
        self.enabled = enabled
        self.projections = nn.ModuleList(_project(channels, prompt_channels) for channels in pyramid_channels)

    def forward(self, pyramid: Sequence[Tensor], prompts: Tensor) -> list[Tensor]:
        """Rearrange every level.

        Args:
            pyramid: (B, C_l, h_l, w_l), finest first
            prompts: (B, N, D)

        Returns:
            (B, N, 2 h_l, 2 w_l) for each level; (B, D, 2 h_l, 2 w_l) where rearrangement is off
        """
        maps = []
        for level, project in zip(pyramid, self.projections, strict=True):
            doubled = F.interpolate(level, scale_factor=2, mode="bilinear", align_corners=False)
            features = project(doubled)
            maps.append(rearrange(features, prompts) if self.enabled else features)
        return maps


class FusedRearrangement(nn.Module):
    """Resize all levels to the size of the finest, concatenate them, and rearrange once (released depth model).

    Args:
        pyramid_channels: C_l of each level, finest first
        prompt_channels: width of the prompts, D
        enabled: if False, pass on the concatenated features without the dot product (the paper's ablation)
        upsample: how coarser levels are enlarged; released models are "transposed"
    """

    def __init__(
        self,
        pyramid_channels: Sequence[int],
        prompt_channels: int,
        *,
        enabled: bool = True,
        upsample: Upsampling = "transposed",
    ) -> None:
        super().__init__()
        self.enabled = enabled
        finest, *coarser = pyramid_channels
        self.levels = nn.ModuleList(
            [
                _project(finest, finest),
                *(_enlarge(channels, doublings, upsample) for doublings, channels in enumerate(coarser, 1)),
            ]
        )
        self.join = _project(sum(pyramid_channels), prompt_channels)

    def forward(self, pyramid: Sequence[Tensor], prompts: Tensor) -> list[Tensor]:
        """Rearrange the concatenated levels.

        Args:
            pyramid: (B, C_l, h / 2^l, w / 2^l), finest first
            prompts: (B, N, D)

        Returns:
            one map (B, N, h, w); (B, D, h, w) where rearrangement is off
        """
        features = self.join(
            torch.cat([layer(level) for layer, level in zip(self.levels, pyramid, strict=True)], dim=1)
        )
        return [rearrange(features, prompts) if self.enabled else features]


def _project(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.GroupNorm(_GROUPS, width), nn.ReLU())


def _enlarge(channels: int, doublings: int, upsample: Upsampling) -> nn.Sequential:
    """Double the size a few times with few channels, then return to the level's own number of channels."""
    return nn.Sequential(
        upsample_stack(channels, _FUSED_FILTERS, doublings=doublings, kernel=4, upsample=upsample),
        nn.Conv2d(_FUSED_FILTERS, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )
