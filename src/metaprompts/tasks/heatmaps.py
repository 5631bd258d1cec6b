"""Joint positions to heatmaps and back, without bias (UDP, Huang et al. 2020; DARK, Zhang et al. 2020)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_SMALLEST = 1e-3


def encode_heatmaps(points: Tensor, size: tuple[int, int], *, sigma: float) -> Tensor:
    """Draw a Gaussian of height 1 at each point.

    Args:
        points: (..., 2), x and y in heatmap pixels, (0, 0) being the first pixel's center; need not be whole numbers
        size: (h, w)
        sigma: standard deviation in heatmap pixels

    Returns:
        (..., h, w) in [0, 1]
    """
    rows = torch.arange(size[0], device=points.device, dtype=points.dtype)
    columns = torch.arange(size[1], device=points.device, dtype=points.dtype)
    across = torch.exp(-((columns - points[..., 0:1]) ** 2) / (2 * sigma**2))
    down = torch.exp(-((rows - points[..., 1:2]) ** 2) / (2 * sigma**2))
    return down.unsqueeze(-1) * across.unsqueeze(-2)


def decode_heatmaps(heatmaps: Tensor, *, sigma: float) -> tuple[Tensor, Tensor]:
    """Find each heatmap's peak to a fraction of a pixel: one Newton step on the smoothed heatmap's logarithm.

    The logarithm of a Gaussian is a parabola, so for a clean heatmap one step is exact.

    Args:
        heatmaps: (B, J, h, w), h and w at least 3
        sigma: standard deviation the heatmaps were drawn with, in heatmap pixels

    Returns:
        points (B, J, 2), x and y in heatmap pixels, and scores (B, J), the heatmaps' largest values
    """
    height, width = heatmaps.shape[-2:]
    scores, peak = heatmaps.flatten(2).max(dim=2)
    row, column = peak // width, peak % width
    logs = _smooth(heatmaps, sigma).clamp_min(_SMALLEST).log()

    # At the edge the parabola is fitted one pixel further in, where it has neighbours on both sides.
    middle_row, middle_column = row.clamp(1, height - 2), column.clamp(1, width - 2)

    def at(down: int, across: int) -> Tensor:
        index = (middle_row + down) * width + middle_column + across
        return logs.flatten(2).gather(2, index.unsqueeze(-1)).squeeze(-1)

    slope_x, slope_y = (at(0, 1) - at(0, -1)) / 2, (at(1, 0) - at(-1, 0)) / 2
    curve_xx = at(0, 1) - 2 * at(0, 0) + at(0, -1)
    curve_yy = at(1, 0) - 2 * at(0, 0) + at(-1, 0)
    curve_xy = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
    determinant = curve_xx * curve_yy - curve_xy**2
    offset_x = -(curve_yy * slope_x - curve_xy * slope_y) / determinant
    offset_y = -(curve_xx * slope_y - curve_xy * slope_x) / determinant

    points = torch.stack([middle_column + offset_x, middle_row + offset_y], dim=-1)
    peaks = torch.stack([column, row], dim=-1).to(points.dtype)
    # A heatmap with no hill to climb, or a step of pixels, has no Gaussian in it: keep the largest pixel.
    usable = (determinant > 0) & (curve_xx < 0) & ((points - peaks).abs() <= 1.5).all(dim=-1) & (scores > 0)
    return torch.where(usable.unsqueeze(-1), points, peaks), scores


def _smooth(heatmaps: Tensor, sigma: float) -> Tensor:
    """Blur with a Gaussian as wide as the joint's, weighing only pixels that exist."""
    radius = math.ceil(3 * sigma)
    offsets = torch.arange(-radius, radius + 1, device=heatmaps.device, dtype=heatmaps.dtype)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    batch, joints, height, width = heatmaps.shape
    flat = heatmaps.reshape(batch * joints, 1, height, width)
    flat = F.conv2d(flat, kernel.view(1, 1, -1, 1) / kernel.sum(), padding=(radius, 0))
    flat = F.conv2d(flat, kernel.view(1, 1, 1, -1) / kernel.sum(), padding=(0, radius))
    return flat.view_as(heatmaps)
