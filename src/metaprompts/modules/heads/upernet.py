"""UPerNet and the auxiliary FCN head for semantic segmentation (Xiao et al. 2018; as in mmsegmentation)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class UPerNet(nn.Module):
    """Pyramid pooling on the coarsest map, a top-down path through the others, and one classifier over all maps.

    Args:
        in_channels: channels of each map, finest first
        width: channels inside the head
        classes: number of classes
        pool_scales: grid sizes of the pyramid pooling
        dropout: fraction of channels dropped before the classifier while training
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        width: int,
        classes: int,
        pool_scales: Sequence[int] = (1, 2, 3, 6),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        *finer, coarsest = in_channels
        self.pooling = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), _conv_norm_relu(coarsest, width, 1)) for scale in pool_scales
        )
        self.bottleneck = _conv_norm_relu(coarsest + len(pool_scales) * width, width, 3)
        self.laterals = nn.ModuleList(_conv_norm_relu(channels, width, 1) for channels in finer)
        self.smooth = nn.ModuleList(_conv_norm_relu(width, width, 3) for _ in finer)
        self.fuse = _conv_norm_relu(len(in_channels) * width, width, 3)
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Classify every pixel.

        Args:
            maps: (B, C_l, h_l, w_l), finest first
            size: (H, W) of the result

        Returns:
            logits (B, classes, H, W)
        """
        *finer, coarsest = maps
        paths = [lateral(level) for lateral, level in zip(self.laterals, finer, strict=True)]
        paths.append(self._pool(coarsest))
        for level in range(len(paths) - 1, 0, -1):
            paths[level - 1] = paths[level - 1] + _resize(paths[level], paths[level - 1].shape[-2:])
        smoothed = [smooth(path) for smooth, path in zip(self.smooth, paths[:-1], strict=True)]
        joined = torch.cat([_resize(path, paths[0].shape[-2:]) for path in [*smoothed, paths[-1]]], dim=1)
        return _resize(self.classify(self.dropout(self.fuse(joined))), size)

    def _pool(self, coarsest: Tensor) -> Tensor:
        pooled = [_resize(pool(coarsest), coarsest.shape[-2:]) for pool in self.pooling]
        return self.bottleneck(torch.cat([coarsest, *pooled], dim=1))  # type: ignore[no-any-return]


class FCNHead(nn.Module):
    """One convolution and a classifier on a single map, used only in training for a second loss.

    Args:
        in_channels: channels of the map
        width: channels inside the head
        classes: number of classes
        level: index of the map that the head reads, from 0, the finest
        dropout: fraction of channels dropped before the classifier while training
    """

    def __init__(self, in_channels: int, *, width: int, classes: int, level: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.level = level
        self.convolve = _conv_norm_relu(in_channels, width, 3)
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Classify every pixel; arguments and result as for `UPerNet.forward`."""
        return _resize(self.classify(self.dropout(self.convolve(maps[self.level]))), size)


def _conv_norm_relu(channels: int, width: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    )


def _resize(features: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(features, size=tuple(size), mode="bilinear", align_corners=False)
