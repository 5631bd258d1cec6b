"""Metric depth: transposed convolutions, scale-invariant log loss, RMSE and friends."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaprompts.errors import InputError
from metaprompts.metrics import depth_errors
from metaprompts.metrics.depth_errors import DEPTH_SCORES, in_range
from metaprompts.modules.heads.deconv import DepthHead
from metaprompts.tasks.base import Batch, FusedTask, ImageArray, ModelInput
from metaprompts.tasks.predictions import DepthPrediction, Prediction
from metaprompts.tasks.preprocess import enlarged_bands, whole_view
from metaprompts.utils.schema import Range, check_ranges

if TYPE_CHECKING:
    from metaprompts.metrics.depth import DepthScores

_BLOCK = 64
_SMALLEST_SPREAD = 1e-12
# The head's sigmoid never reaches its maximum.
_SKY_SHARE = 0.98
_GRADIENT_SCALES = 4


@dataclass(frozen=True, kw_only=True)
class Depth(FusedTask):
    """Settings of metric depth.

    Attributes:
        max_depth_m: largest depth the head can give, in meters
        min_depth_m: ground truth must be above this value to be scored, in meters
        mask_out_of_range: exclude from the loss what is not scored: ground truth outside min_depth_m to max_depth_m.
            False for the released code's rule, which trains on everything above 0
        margin_blocks: number of blocks of 64 pixels beyond H // 64 to which the image is enlarged for the backbone
            (released code: NYU 1, KITTI 2; 0 leaves multiples of 64 as they are)
        filters: channels of the head's transposed convolutions
        width: channels of the head's convolutions
        variance_focus: see `silog`
        gradient_weight: weight of the gradient-matching term added to SILog, see `gradient_matching`; 0 leaves it out
    """

    name: ClassVar[str] = "depth"
    metrics: ClassVar[tuple[str, ...]] = DEPTH_SCORES

    max_depth_m: Annotated[float, Range(0, 1e6, above=True)]
    min_depth_m: Annotated[float, Range(0, 1e6, above=True)] = 1e-3
    mask_out_of_range: bool = True
    margin_blocks: Annotated[int, Range(0, 64)] = 1
    filters: Annotated[int, Range(1, 16384)] = 32
    width: Annotated[int, Range(1, 16384)] = 192
    variance_focus: Annotated[float, Range(0, 1)] = 0.5
    gradient_weight: Annotated[float, Range(0, 1e6)] = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.min_depth_m < self.max_depth_m:
            raise InputError(
                f"task.min_depth_m is {self.min_depth_m} and task.max_depth_m {self.max_depth_m}; expected "
                "0 < min_depth_m < max_depth_m, in meters"
            )
        check_ranges(self, "task")

    @property
    def outputs(self) -> int:
        return 1

    def head(self, channels: int, levels: int) -> nn.Module:
        del levels
        return DepthHead(
            channels,
            filters=self.filters,
            width=self.width,
            max_depth_m=self.max_depth_m,
            upsample=self.upsample,
        )

    def resize_for_backbone(self, images: Tensor) -> Tensor:
        """Enlarge images (B, 3, H, W) to ((H // 64 + s) * 64, (W // 64 + s) * 64), where s is margin_blocks."""
        size = [max(side // _BLOCK + self.margin_blocks, 1) * _BLOCK for side in images.shape[-2:]]
        return F.interpolate(images, size=size, mode="bilinear", align_corners=False)

    def losses(self, raw: Tensor, auxiliary: Tensor | None, batch: Batch) -> dict[str, Tensor]:
        """SILog over measured pixels, without those out of range if they are masked, and gradient matching.

        Args:
            raw: meters (B, 1, h, w)
            auxiliary: not used
            batch: "depth_m" (B, H, W), 0 = none, infinite = sky, which is trained to be just short of ``max_depth_m``
        """
        del auxiliary
        target_m = batch["depth_m"]
        target_m = torch.where(target_m.isinf(), _SKY_SHARE * self.max_depth_m, target_m)
        if self.mask_out_of_range:
            scored = in_range(target_m, self.min_depth_m, self.max_depth_m)
            target_m = target_m.masked_fill(~scored, 0)
        predicted_m = _at_size(raw, target_m.shape[-2:])
        losses = {"silog": silog(predicted_m, target_m, variance_focus=self.variance_focus)}
        if self.gradient_weight:
            losses["gradient"] = self.gradient_weight * gradient_matching(predicted_m, target_m)
        return losses

    def encode(self, batch: Batch) -> Tensor:
        """Depth (B, H, W) as a raw output (B, 1, H, W)."""
        return batch["depth_m"].unsqueeze(1)

    def decode(self, raw: Tensor) -> Tensor:
        """Raw output (B, 1, H, W) to meters (B, H, W)."""
        return raw.squeeze(1)

    def metric(self, **metric_kwargs: Any) -> "DepthScores":
        # Torchmetrics takes seconds to import; recipes are read without scoring.
        from metaprompts.metrics.depth import DepthScores

        return DepthScores(min_depth_m=self.min_depth_m, max_depth_m=self.max_depth_m, crop=metric_kwargs.get("crop"))

    def score(self, metric: "DepthScores", raw: Tensor, batch: Batch) -> None:
        target_m = batch["depth_m"]
        metric.update(_at_size(raw, target_m.shape[-2:]), target_m)

    def model_inputs(
        self, image: ImageArray, working_size: tuple[int, int] | None, boxes: Sequence[Any] | None
    ) -> Iterator[ModelInput]:
        del boxes
        yield whole_view(image, working_size)

    def assemble(self, image: ImageArray, outputs: Iterable[tuple[ModelInput, Tensor]]) -> Prediction:
        ((_, raw),) = outputs
        depth_m = np.empty(image.shape[:2], np.float32)
        for rows, band in enlarged_bands(raw[0].float(), (image.shape[0], image.shape[1])):
            depth_m[rows] = band.cpu().numpy()
        return DepthPrediction(depth_m=depth_m, image=image)

    def assemble_rows(self, image: ImageArray, rows: Iterable[tuple[int, Tensor]]) -> Prediction:
        depth_m = np.zeros(image.shape[:2], np.float32)
        for first, some in rows:
            depth_m[first : first + some.shape[1]] = some[0].cpu().numpy()
        return DepthPrediction(depth_m=depth_m, image=image)


def _at_size(raw: Tensor, size: Sequence[int]) -> Tensor:
    """(B, 1, h, w) -> (B, H, W)."""
    if raw.shape[-2:] != tuple(size):
        raw = F.interpolate(raw, size=tuple(size), mode="bilinear", align_corners=False)
    return raw.squeeze(1)


def silog(predicted_m: Tensor, target_m: Tensor, *, variance_focus: float) -> Tensor:
    """The scale-invariant log loss of `depth_errors.silog`, over the measured pixels of a batch.

    Args:
        predicted_m: meters, above 0, any shape
        target_m: meters, the same shape; pixels at 0 are left out
        variance_focus: f; 1 ignores a wrong scale, 0 does not

    Returns:
        scalar; 0 (with zero gradient) when nothing was measured
    """
    measured = target_m > 0
    if not measured.any():
        return predicted_m.sum() * 0
    # The root's slope at 0 is infinite, so the value is clamped just above it.
    return depth_errors.silog(
        predicted_m[measured], target_m[measured], variance_focus=variance_focus, smallest=_SMALLEST_SPREAD
    )


def gradient_matching(predicted_m: Tensor, target_m: Tensor) -> Tensor:
    """The difference of log-depth gradients to the target's, at four scales; keeps edges sharp.

    The mean over pairs of measured neighbors of |d(q) - d(p)|, with d = ln prediction - ln target; summed over both
    directions and over every 1st, 2nd, 4th and 8th pixel. Source: MiDaS (Ranftl et al., TPAMI 2020), equation 11, which
    takes disparity where we take log depth, as SILog does.

    Args:
        predicted_m: (B, H, W) meters, above 0
        target_m: (B, H, W) meters; pixels at 0 are left out

    Returns:
        scalar; 0 (with zero gradient) when no neighbors were measured
    """
    measured = target_m > 0
    difference = predicted_m.log() - torch.where(measured, target_m, 1).log()
    total = predicted_m.sum() * 0
    for step in (2**scale for scale in range(_GRADIENT_SCALES)):
        some, known = difference[:, ::step, ::step], measured[:, ::step, ::step]
        for along in (1, 2):
            length = some.shape[along] - 1
            both = known.narrow(along, 1, length) & known.narrow(along, 0, length)
            slopes = (some.narrow(along, 1, length) - some.narrow(along, 0, length)).abs()
            total = total + (slopes * both).sum() / both.sum().clamp_min(1)
    return total
