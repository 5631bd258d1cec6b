"""Errors of metric depth, and the crops in which they are measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from metaprompts.utils.lazy import lazy_module

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")


DEPTH_SCORES = ("d1", "d2", "d3", "rel", "sq_rel", "rmse", "rmse_log", "log10", "silog")


def nyu_crop(height: int, width: int) -> Tensor:
    """Eigen's crop of NYU Depth v2: rows 45:471, columns 41:601, made for 480x640 images.

    Returns:
        (H,W) bool, True where pixels count
    """
    return _box_mask(height, width, rows=(45, 471), columns=(41, 601))


def garg_crop(height: int, width: int) -> Tensor:
    """The crop of KITTI from Garg et al., ECCV 2016; all published results that we compare with use it.

    Returns:
        (H,W) bool, True where pixels count
    """
    return _box_mask(
        height,
        width,
        rows=(int(0.40810811 * height), int(0.99189189 * height)),
        columns=(int(0.03594771 * width), int(0.96405229 * width)),
    )


def eigen_crop(height: int, width: int) -> Tensor:
    """The crop of KITTI that reproduces Eigen et al., NIPS 2014.

    Returns:
        (H,W) bool, True where pixels count
    """
    return _box_mask(
        height,
        width,
        rows=(int(0.3324324 * height), int(0.91351351 * height)),
        columns=(int(0.0359477 * width), int(0.96405229 * width)),
    )


CROPS: Mapping[str, Callable[[int, int], Tensor]] = MappingProxyType(
    {"nyu": nyu_crop, "garg": garg_crop, "eigen": eigen_crop}
)


def silog(predicted_m: Tensor, target_m: Tensor, *, variance_focus: float, smallest: float = 0.0) -> Tensor:
    """Scale-invariant logarithmic error: sqrt(mean(d^2) - variance_focus * mean(d)^2), d = ln predicted - ln target.

    With ``variance_focus`` 0 this is the RMSE of logarithms; 1 ignores any common scale; the released code reports 0.5.
    Source: Eigen et al., NIPS 2014, the square root of equation 3.

    Args:
        predicted_m: any shape, meters, > 0
        target_m: the same shape, meters, > 0
        variance_focus: degree to which a common scale is ignored, 0..1
        smallest: lower bound of the value under the square root

    Returns:
        a scalar
    """
    difference = predicted_m.log() - target_m.log()
    spread = difference.square().mean() - variance_focus * difference.mean().square()
    # With focus 1, rounding can make this negative when all errors are equal.
    return spread.clamp_min(smallest).sqrt()


def in_range(depth_m: Tensor, min_depth_m: float, max_depth_m: float) -> Tensor:
    """Mask of the scored pixels: min_depth_m < depth < max_depth_m; 0 means no measurement.

    Args:
        depth_m: any shape, meters, in the original dtype: a float32 of 1e-3 becomes more than 1e-3 in float64
        min_depth_m: lower bound, exclusive
        max_depth_m: upper bound, exclusive

    Returns:
        bool, of the same shape
    """
    return (depth_m > min_depth_m) & (depth_m < max_depth_m)


def depth_errors(predicted_m: Tensor, target_m: Tensor) -> Tensor:
    """The nine standard depth errors of one image.

    d1, d2, d3: fraction of pixels with max(p/t, t/p) below 1.25, 1.25^2, 1.25^3; rel: mean abs(p - t)/t; sq_rel: mean
    (p - t)^2/t; rmse: meters; rmse_log: of natural logarithms; log10: mean abs(log10 p - log10 t); silog: with
    variance focus 0.5.

    Args:
        predicted_m: (P,) meters, > 0, valid pixels only
        target_m: (P,) meters, > 0

    Returns:
        (9,) in the order of ``DEPTH_SCORES``
    """
    ratio = torch.maximum(predicted_m / target_m, target_m / predicted_m)
    difference = predicted_m - target_m
    logarithms = predicted_m.log() - target_m.log()
    return torch.stack(
        [
            *((ratio < 1.25**power).to(ratio.dtype).mean() for power in (1, 2, 3)),
            (difference.abs() / target_m).mean(),
            (difference.square() / target_m).mean(),
            difference.square().mean().sqrt(),
            logarithms.square().mean().sqrt(),
            logarithms.abs().mean() / math.log(10),
            silog(predicted_m, target_m, variance_focus=0.5),
        ]
    )


def _box_mask(height: int, width: int, *, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """A mask (H,W) that is True in the given ranges of rows and columns."""
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask
