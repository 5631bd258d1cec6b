"""Errors of metric depth, measured image by image and averaged, and the crops they are measured in."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from metaprompts.errors import InputError

DEPTH_SCORES = ("d1", "d2", "d3", "rel", "sq_rel", "rmse", "rmse_log", "log10", "silog")


def nyu_crop(height: int, width: int) -> Tensor:
    """Eigen's crop of NYU Depth v2: rows 45:471, columns 41:601, made for 480x640 images.

    Returns:
        (H,W) bool, True where pixels count
    """
    return _box(height, width, rows=(45, 471), columns=(41, 601))


def garg_crop(height: int, width: int) -> Tensor:
    """The crop of KITTI from Garg et al., ECCV 2016; every published row here uses it.

    Returns:
        (H,W) bool, True where pixels count
    """
    return _box(
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
    return _box(
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

    ``variance_focus`` 0 is the RMSE of logarithms, 1 forgives any common scale, 0.5 is what the released code reports.
    Source: Eigen et al., NIPS 2014, equation 3, under a root.

    Args:
        predicted_m: any shape, meters, > 0
        target_m: the same shape, meters, > 0
        variance_focus: how much of a common scale is forgiven, 0..1
        smallest: lower bound of what is under the root

    Returns:
        a scalar
    """
    difference = predicted_m.log() - target_m.log()
    spread = difference.square().mean() - variance_focus * difference.mean().square()
    # With focus 1 rounding can take it below zero when all errors agree.
    return spread.clamp_min(smallest).sqrt()


def in_range(depth_m: Tensor, min_depth_m: float, max_depth_m: float) -> Tensor:
    """Which pixels count: those with min_depth_m < depth < max_depth_m. No measurement is 0.

    Args:
        depth_m: any shape, meters, in the type it was read in: as float64, a float32 of 1e-3 would lie above 1e-3
        min_depth_m: lower bound, itself excluded
        max_depth_m: upper bound, itself excluded

    Returns:
        bool, of the same shape
    """
    return (depth_m > min_depth_m) & (depth_m < max_depth_m)


def depth_errors(predicted_m: Tensor, target_m: Tensor) -> Tensor:
    """The nine usual numbers of one image.

    d1, d2, d3: share of pixels with max(p/t, t/p) below 1.25, 1.25^2, 1.25^3; rel: mean abs(p - t)/t; sq_rel: mean
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


class DepthScores(Metric):  # type: ignore[misc]
    """The nine depth errors, measured in each image and then averaged over images.

    A pixel counts where min_depth_m < target < max_depth_m and the crop allows it. Infinite predictions become
    ``max_depth_m``, NaN and anything below ``min_depth_m`` become ``min_depth_m``. A finite prediction above
    ``max_depth_m`` stays as it is: so does the released code, whose models cannot exceed it anyway. Arithmetic is
    float64, so keep this metric on a device that has it.

    Args:
        min_depth_m: targets must lie above; published rows use 1e-3
        max_depth_m: targets must lie below; 10 for NYU Depth v2, 80 for KITTI
        rows: first row and the row after the last that count; None: all
        columns: the same for columns
        crop: (height, width) -> (H,W) bool, for crops that depend on the size, see ``CROPS``; None: no crop
        clamp_to_max: also bring finite predictions above ``max_depth_m`` down to it
    """

    full_state_update = False
    higher_is_better = None
    total: Tensor
    images: Tensor
    skipped: Tensor

    def __init__(
        self,
        *,
        min_depth_m: float,
        max_depth_m: float,
        rows: tuple[int, int] | None = None,
        columns: tuple[int, int] | None = None,
        crop: Callable[[int, int], Tensor] | None = None,
        clamp_to_max: bool = False,
    ) -> None:
        super().__init__()
        if not 0 < min_depth_m < max_depth_m:
            raise InputError(
                f"depth scores got the range {min_depth_m} to {max_depth_m} m; expected 0 < minimum < maximum"
            )
        self.min_depth_m, self.max_depth_m = min_depth_m, max_depth_m
        self.rows, self.columns, self.crop = rows, columns, crop
        self.clamp_to_max = clamp_to_max
        self.add_state("total", torch.zeros(len(DEPTH_SCORES), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("skipped", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted_m: Tensor, target_m: Tensor) -> None:
        """Measure a batch, image by image; an image without any valid pixel is skipped and counted.

        Args:
            predicted_m: (B,1,H,W) or (B,H,W) meters
            target_m: (B,1,H,W) or (B,H,W) meters; 0, NaN or anything outside the range: no measurement

        Raises:
            InputError: the two are not the same batch of maps
        """
        predicted_m, target_m = self._as_maps(predicted_m), self._as_maps(target_m)
        if predicted_m.shape != target_m.shape:
            raise InputError(
                f"predicted depth is {tuple(predicted_m.shape)}, target {tuple(target_m.shape)}; expected one shape: "
                "resize the prediction to the target"
            )
        valid = in_range(target_m, self.min_depth_m, self.max_depth_m) & self._counted(*target_m.shape[1:])
        predicted_m, target_m = self._in_range(predicted_m.double()), target_m.double()
        for prediction, target, mask in zip(predicted_m, target_m, valid, strict=True):
            if mask.any():
                self.total += depth_errors(prediction[mask], target[mask])
                self.images += 1
            else:
                self.skipped += 1

    def compute(self) -> dict[str, float]:
        """The scores over all processes; see `scores`."""
        return self.scores()

    def scores(self) -> dict[str, float]:
        """Means over the images that this process measured.

        Returns:
            the names of ``DEPTH_SCORES`` (nan if nothing was measured), ``images`` measured and ``images_skipped``
        """
        means = (self.total / self.images).tolist()
        counts = {"images": float(self.images), "images_skipped": float(self.skipped)}
        return dict(zip(DEPTH_SCORES, means, strict=True)) | counts

    def state(self) -> dict[str, Any]:
        """Everything measured so far as plain values: sums of the nine errors, and how many images."""
        return {"total": self.total.tolist(), "images": int(self.images), "skipped": int(self.skipped)}

    def add(self, state: Mapping[str, Any]) -> None:
        """Count what another's `state` holds."""
        self.total += self.total.new_tensor(state["total"])
        self.images += state["images"]
        self.skipped += state["skipped"]

    def summary(self) -> dict[str, float]:
        """The per-image scores that are listed with its name."""
        scores = self.scores()
        return {name: scores[name] for name in DEPTH_SCORES}

    def _as_maps(self, depth_m: Tensor) -> Tensor:
        if depth_m.ndim == 4 and depth_m.shape[1] == 1:
            depth_m = depth_m[:, 0]
        if depth_m.ndim != 3:
            raise InputError(f"depth is {tuple(depth_m.shape)}; expected (B,1,H,W) or (B,H,W) in meters")
        return depth_m.to(self.total.device)

    def _counted(self, height: int, width: int) -> Tensor:
        mask = _box(height, width, rows=self.rows or (0, height), columns=self.columns or (0, width))
        if self.crop is not None:
            mask &= self.crop(height, width).to(mask.device)
        return mask.to(self.total.device)

    def _in_range(self, depth_m: Tensor) -> Tensor:
        depth_m = depth_m.masked_fill(depth_m.isinf(), self.max_depth_m).nan_to_num(nan=self.min_depth_m)
        return depth_m.clamp(self.min_depth_m, self.max_depth_m if self.clamp_to_max else None)


def _box(height: int, width: int, *, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask
