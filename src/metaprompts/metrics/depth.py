"""Depth errors, measured in each image and averaged over images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from metaprompts.errors import InputError
from metaprompts.metrics.base import Metric
from metaprompts.utils.lazy import lazy_module

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")

DEPTH_SCORES = ("d1", "d2", "d3", "rel", "sq_rel", "rmse", "rmse_log", "log10", "silog")


def _box_mask(height: int, width: int, *, rows: tuple[float, float], columns: tuple[float, float]) -> Tensor:
    """A mask (H,W) that is True in the given ranges, which are pixels if integers, else fractions."""
    mask = torch.zeros(height, width, dtype=torch.bool)
    ends = zip((height, width), (rows, columns), strict=True)
    within = [slice(*(end if isinstance(end, int) else int(end * side) for end in both)) for side, both in ends]
    mask[within[0], within[1]] = True
    return mask


CROPS: Mapping[str, Callable[[int, int], Tensor]] = MappingProxyType(
    {
        # Eigen's crop of NYU Depth v2, made for 480x640 images.
        "nyu": partial(_box_mask, rows=(45, 471), columns=(41, 601)),
        # The crop of KITTI from Garg et al., ECCV 2016; all published results that we compare with use it.
        "garg": partial(_box_mask, rows=(0.40810811, 0.99189189), columns=(0.03594771, 0.96405229)),
        # The crop of KITTI that reproduces Eigen et al., NIPS 2014.
        "eigen": partial(_box_mask, rows=(0.3324324, 0.91351351), columns=(0.0359477, 0.96405229)),
    }
)
"""(height, width) -> (H,W) bool, True where pixels count."""


def silog(predicted_m: Tensor, target_m: Tensor, *, variance_focus: float, smallest: float = 0.0) -> Tensor:
    """Scale-invariant logarithmic error: sqrt(mean(d^2) - variance_focus * mean(d)^2), d = ln predicted - ln target.

    With ``variance_focus`` 0 this is the RMSE of logarithms; 1 ignores any common scale; the released code reports 0.5.
    Source: Eigen et al., NIPS 2014, the square root of equation 3.

    Args:
        predicted_m: any shape, meters, > 0
        target_m: the same shape, meters, > 0
        variance_focus: degree to which a common scale is ignored, 0..1
        smallest: lower bound on the value under the square root

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


class DepthScores(Metric):
    """The nine depth errors, measured in each image and then averaged over images.

    A pixel counts where min_depth_m < target < max_depth_m and the crop allows it. Infinite predictions become
    ``max_depth_m``, NaN and anything below ``min_depth_m`` become ``min_depth_m``. A finite prediction above
    ``max_depth_m`` is kept, as in the released code, whose models cannot exceed it anyway. Arithmetic is in float64.

    Args:
        min_depth_m: targets must be above this; published results use 1e-3
        max_depth_m: targets must be below this; 10 for NYU Depth v2, 80 for KITTI
        crop: (height, width) -> (H,W) bool, for crops that depend on the size, see ``CROPS``; None to score the whole
            image
    """

    listed = DEPTH_SCORES

    def __init__(
        self, *, min_depth_m: float, max_depth_m: float, crop: Callable[[int, int], Tensor] | None = None
    ) -> None:
        if not 0 < min_depth_m < max_depth_m:
            raise InputError(
                f"the range of scored depth is {min_depth_m} to {max_depth_m} m; expected 0 < minimum < maximum"
            )
        self.min_depth_m, self.max_depth_m = min_depth_m, max_depth_m
        self.crop = crop
        self.reset()

    def reset(self) -> None:
        self._total = torch.zeros(len(DEPTH_SCORES), dtype=torch.float64)
        self._images = self._skipped = 0

    def update(self, predicted_m: Tensor, target_m: Tensor) -> None:
        """Measure a batch, image by image; an image without any valid pixel is skipped and counted.

        Args:
            predicted_m: (B,1,H,W) or (B,H,W) meters
            target_m: (B,1,H,W) or (B,H,W) meters; 0, NaN or anything outside the range means no measurement

        Raises:
            InputError: the shapes differ
        """
        predicted_m, target_m = _as_maps(predicted_m), _as_maps(target_m)
        if predicted_m.shape != target_m.shape:
            raise InputError(
                f"predicted depth is {tuple(predicted_m.shape)}, target {tuple(target_m.shape)}; expected the same "
                f"shape: resize the prediction to the target"
            )
        valid = in_range(target_m, self.min_depth_m, self.max_depth_m)
        if self.crop is not None:
            valid &= self.crop(*target_m.shape[1:])
        predicted_m, target_m = self._in_range(predicted_m.double()), target_m.double()
        for prediction, target, mask in zip(predicted_m, target_m, valid, strict=True):
            if mask.any():
                self._total += depth_errors(prediction[mask], target[mask])
                self._images += 1
            else:
                self._skipped += 1

    def scores(self) -> dict[str, float]:
        """Means over the measured images.

        Returns:
            the ``DEPTH_SCORES`` by name (nan if nothing was measured), ``images`` measured and ``images_skipped``
        """
        counts = {"images": float(self._images), "images_skipped": float(self._skipped)}
        return dict(zip(DEPTH_SCORES, (self._total / self._images).tolist(), strict=True)) | counts

    def state(self) -> dict[str, Any]:
        """Sums of the nine errors, and the numbers of images."""
        return {"total": self._total.tolist(), "images": self._images, "skipped": self._skipped}

    def add(self, state: Mapping[str, Any]) -> None:
        self._total += self._total.new_tensor(state["total"])
        self._images += state["images"]
        self._skipped += state["skipped"]

    def _in_range(self, depth_m: Tensor) -> Tensor:
        depth_m = depth_m.masked_fill(depth_m.isinf(), self.max_depth_m).nan_to_num(nan=self.min_depth_m)
        return depth_m.clamp_min(self.min_depth_m)


def _as_maps(depth_m: Tensor) -> Tensor:
    if depth_m.ndim == 4 and depth_m.shape[1] == 1:
        depth_m = depth_m[:, 0]
    if depth_m.ndim != 3:
        raise InputError(f"depth is {tuple(depth_m.shape)}; expected (B,1,H,W) or (B,H,W) in meters")
    return depth_m.cpu()
