"""Joint positions to heatmaps and back, without bias (UDP, Huang et al. 2020)."""

import math

import torch
from torch import Tensor

_SMALLEST = 1e-3
_RADIUS_IN_SIGMAS = 1.5


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
    """Find each heatmap's peak with subpixel accuracy by fitting a Gaussian of known width around its largest pixel.

    The logarithm of a Gaussian is a paraboloid whose curvature is given by sigma; subtracting it leaves a plane, whose
    slope gives the position. The slope is found by least squares, weighted by the squared heatmap to account for the
    noise of the logarithm (Guo 2011). A clean heatmap gives its point exactly, even near the border, where smoothing
    the heatmap first (DARK, Zhang et al. 2020) pulls points inward by up to half a sigma.

    Args:
        heatmaps: (B, J, h, w)
        sigma: standard deviation with which the heatmaps were drawn, in heatmap pixels

    Returns:
        points (B, J, 2), x and y in heatmap pixels, and scores (B, J), the heatmaps' largest values
    """
    height, width = heatmaps.shape[-2:]
    scores, index = heatmaps.flatten(2).max(dim=2)
    peaks = torch.stack([index % width, index // width], dim=-1).to(heatmaps.dtype)

    radius = math.ceil(_RADIUS_IN_SIGMAS * sigma)
    x = torch.arange(width, device=heatmaps.device, dtype=heatmaps.dtype) - peaks[..., 0:1]
    y = torch.arange(height, device=heatmaps.device, dtype=heatmaps.dtype) - peaks[..., 1:2]
    near = (y.abs() <= radius).unsqueeze(-1) & (x.abs() <= radius).unsqueeze(-2)
    x, y = x.unsqueeze(-2), y.unsqueeze(-1)
    heights = heatmaps.clamp_min(_SMALLEST)
    plane = heights.log() + (x.square() + y.square()) / (2 * sigma**2)
    weights = heights.square() * near
    weights = weights / weights.sum(dim=(-2, -1), keepdim=True)

    def mean(values: Tensor) -> Tensor:
        return (weights * values).sum(dim=(-2, -1), keepdim=True)

    x, y, plane = x - mean(x), y - mean(y), plane - mean(plane)
    xx, yy, xy = mean(x * x), mean(y * y), mean(x * y)
    rise_x, rise_y = mean(x * plane), mean(y * plane)
    slope_x, slope_y = yy * rise_x - xy * rise_y, xx * rise_y - xy * rise_x
    determinant = (xx * yy - xy * xy).flatten(2)
    offsets = torch.cat([slope_x.flatten(2), slope_y.flatten(2)], dim=-1) * sigma**2 / determinant
    # Without a peak, or if the fit lies outside its window, keep the largest pixel.
    usable = (scores > 0).unsqueeze(-1) & (determinant > 0) & (offsets.abs() <= radius).all(dim=-1, keepdim=True)
    return torch.where(usable, peaks + offsets, peaks), scores
