"""Angles between predicted and true surface normals, over all pixels of a split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from metaprompts.metrics.base import Metric
from metaprompts.utils.lazy import lazy_module

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")

LIMITS_DEG = (11.25, 22.5, 30.0)
"""The standard angle thresholds in degrees (Fouhey et al., ICCV 2013)."""

ANGLE_SCORES = ("mean_deg", "median_deg", *(f"within_{limit:g}" for limit in LIMITS_DEG))

_BINS_PER_DEG = 10


class AngleScores(Metric):
    """Mean and median angle, and fractions of pixels within 11.25, 22.5 and 30 degrees; all pixels count equally.

    The median is interpolated within a histogram whose bins are a tenth of a degree wide.
    """

    listed = ANGLE_SCORES

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._counts = torch.zeros(180 * _BINS_PER_DEG, dtype=torch.int64)
        self._within = torch.zeros(len(LIMITS_DEG), dtype=torch.int64)
        self._total_deg = 0.0
        self._images = 0

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Count a batch.

        Args:
            predicted: (B,3,H,W) unit vectors
            target: (B,3,H,W) unit vectors, 0 = no surface
        """
        # The arc cosine of rounded numbers near 1 is off by a hundredth of a degree; the sine of half the angle is
        # not.
        predicted, target = predicted.double().cpu(), target.double().cpu()
        half = ((predicted - target).square().sum(dim=1).sqrt() / 2).clamp(0, 1)
        angles_deg = (2 * half.asin()).rad2deg()[target.any(dim=1)]
        bins = (angles_deg * _BINS_PER_DEG).long().clamp_max(len(self._counts) - 1)
        self._counts += torch.bincount(bins, minlength=len(self._counts))
        self._within += torch.stack([(angles_deg < limit).sum() for limit in LIMITS_DEG])
        self._total_deg += float(angles_deg.sum())
        self._images += len(target)

    def scores(self) -> dict[str, float]:
        """The ``ANGLE_SCORES`` by name, nan if nothing was measured, and ``images``."""
        pixels = int(self._counts.sum())
        numbers = [self._total_deg, self._median_deg(pixels) * pixels, *self._within.tolist()]
        means = [number / pixels if pixels else float("nan") for number in numbers]
        return dict(zip(ANGLE_SCORES, means, strict=True)) | {"images": float(self._images)}

    def _median_deg(self, pixels: int) -> float:
        below = self._counts.cumsum(0)
        place = int((2 * below < pixels).sum())
        if not pixels:
            return 0.0
        share = (pixels / 2 - int(below[place] - self._counts[place])) / int(self._counts[place])
        return (place + share) / _BINS_PER_DEG

    def state(self) -> dict[str, Any]:
        """Everything counted; ``counts`` is a list of [tenth of a degree, pixels]."""
        bins = self._counts.nonzero()[:, 0]
        return {
            "counts": torch.stack([bins, self._counts[bins]], dim=1).tolist(),
            "within": self._within.tolist(),
            "total_deg": self._total_deg,
            "images": self._images,
        }

    def add(self, state: Mapping[str, Any]) -> None:
        for place, pixels in state["counts"]:
            self._counts[place] += pixels
        self._within += torch.tensor(state["within"])
        self._total_deg += state["total_deg"]
        self._images += state["images"]
