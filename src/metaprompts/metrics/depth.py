"""Depth errors, measured in each image and averaged over images."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from metaprompts.errors import InputError
from metaprompts.metrics.depth_errors import DEPTH_SCORES, depth_errors, in_range


class DepthScores(Metric):  # type: ignore[misc]
    """The nine depth errors, measured in each image and then averaged over images.

    A pixel counts where min_depth_m < target < max_depth_m and the crop allows it. Infinite predictions become
    ``max_depth_m``, NaN and anything below ``min_depth_m`` become ``min_depth_m``. A finite prediction above
    ``max_depth_m`` is kept, as in the released code, whose models cannot exceed it anyway. Arithmetic is in float64, so
    keep this metric on a device that supports it.

    Args:
        min_depth_m: targets must be above this; published results use 1e-3
        max_depth_m: targets must be below this; 10 for NYU Depth v2, 80 for KITTI
        crop: (height, width) -> (H,W) bool, for crops that depend on the size, see ``CROPS``; None to score the whole
            image
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
        crop: Callable[[int, int], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if not 0 < min_depth_m < max_depth_m:
            raise InputError(
                f"the range of scored depth is {min_depth_m} to {max_depth_m} m; expected 0 < minimum < maximum"
            )
        self.min_depth_m, self.max_depth_m = min_depth_m, max_depth_m
        self.crop = crop
        self.add_state("total", torch.zeros(len(DEPTH_SCORES), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("skipped", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted_m: Tensor, target_m: Tensor) -> None:
        """Measure a batch, image by image; an image without any valid pixel is skipped and counted.

        Args:
            predicted_m: (B,1,H,W) or (B,H,W) meters
            target_m: (B,1,H,W) or (B,H,W) meters; 0, NaN or anything outside the range means no measurement

        Raises:
            InputError: the shapes differ
        """
        predicted_m, target_m = self._as_maps(predicted_m), self._as_maps(target_m)
        if predicted_m.shape != target_m.shape:
            raise InputError(
                f"predicted depth is {tuple(predicted_m.shape)}, target {tuple(target_m.shape)}; expected the same "
                f"shape: resize the prediction to the target"
            )
        valid = in_range(target_m, self.min_depth_m, self.max_depth_m)
        if self.crop is not None:
            valid &= self.crop(*target_m.shape[1:]).to(valid.device)
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
            the ``DEPTH_SCORES`` by name (nan if nothing was measured), ``images`` measured and ``images_skipped``
        """
        means = (self.total / self.images).tolist()
        counts = {"images": float(self.images), "images_skipped": float(self.skipped)}
        return dict(zip(DEPTH_SCORES, means, strict=True)) | counts

    def state(self) -> dict[str, Any]:
        """Everything measured so far, as plain values: sums of the nine errors, and the number of images."""
        return {"total": self.total.tolist(), "images": int(self.images), "skipped": int(self.skipped)}

    def add(self, state: Mapping[str, Any]) -> None:
        """Add the counts of another metric's `state`."""
        self.total += self.total.new_tensor(state["total"])
        self.images += state["images"]
        self.skipped += state["skipped"]

    def summary(self) -> dict[str, float]:
        """The scores that are listed for each image."""
        scores = self.scores()
        return {name: scores[name] for name in DEPTH_SCORES}

    def _as_maps(self, depth_m: Tensor) -> Tensor:
        if depth_m.ndim == 4 and depth_m.shape[1] == 1:
            depth_m = depth_m[:, 0]
        if depth_m.ndim != 3:
            raise InputError(f"depth is {tuple(depth_m.shape)}; expected (B,1,H,W) or (B,H,W) in meters")
        return depth_m.to(self.total.device)

    def _in_range(self, depth_m: Tensor) -> Tensor:
        depth_m = depth_m.masked_fill(depth_m.isinf(), self.max_depth_m).nan_to_num(nan=self.min_depth_m)
        return depth_m.clamp_min(self.min_depth_m)
