"""Metric depth: transposed convolutions, scale-invariant log loss, RMSE and other depth errors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metaprompts.data.check import readable_samples
from metaprompts.data.config.depth import DepthAugment, DepthData
from metaprompts.data.datasets.depth_statistics import DepthStatistics
from metaprompts.data.sample import Sample, SampleDataset
from metaprompts.data.transforms.geometric import KittiCrop
from metaprompts.data.transforms.transform import Transform
from metaprompts.errors import InputError
from metaprompts.metrics import depth as depth_metrics
from metaprompts.metrics.depth import CROPS, DEPTH_SCORES, DepthScores, in_range
from metaprompts.metrics.prompt_statistics import DepthResponses
from metaprompts.tasks.base import About, FusedTask
from metaprompts.tasks.drawing import shrunk
from metaprompts.tasks.predictions import DepthPrediction, Prediction
from metaprompts.tasks.preprocess import ModelInput, at_size, enlarged_bands
from metaprompts.tasks.protocol import Batch, EvaluationProtocol, with_context
from metaprompts.tasks.standalone.dense import Array, between, resized
from metaprompts.utils.lazy import lazy_module
from metaprompts.utils.schema import Range, check_ranges
from metaprompts.visualize.depth import BRIGHTNESS_NOTE, color_depth, depth_legend, depth_range, visible_points
from metaprompts.visualize.legends import sentences
from metaprompts.visualize.text import ImageArray, stack_down

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    from metaprompts.tasks.protocol import Predictor
else:
    torch = lazy_module("torch")
    F = lazy_module("torch.nn.functional")
    nn = lazy_module("torch.nn")

logger = logging.getLogger(__name__)

_BLOCK = 64
_SMALLEST_SPREAD = 1e-12
# The head's sigmoid never reaches its maximum.
_SKY_SHARE = 0.98
_GRADIENT_SCALES = 4
_TRIED = 8
_LEGEND_PX = 14


@dataclass(frozen=True, kw_only=True)
class DepthProtocol(EvaluationProtocol):
    """Test protocol of depth. Windows and mirror images are averaged in meters.

    Attributes:
        num_windows: number of square windows along the long side (NYU: 2, KITTI: 16); none for the whole image at once
        crop: evaluated region: nyu (rows 45:471, columns 41:601), garg or eigen (KITTI); none for the whole image
        kitti_crop: first crop images and depth to KITTI's benchmark crop: the lowest 352 rows and the middle 1216
            columns, as in training
    """

    num_windows: Annotated[int, Range(2, 1024)] | None = None
    crop: Literal["nyu", "garg", "eigen"] | None = None
    kitti_crop: bool = False

    def predict(self, model: Predictor, batch: Batch) -> Tensor:
        """Meters (B,1,h,w)."""
        predict = with_context(model, batch)
        if self.num_windows is None and not self.flip:
            return predict(batch["image"])
        from metaprompts.tasks.sliding_window import predict_windows

        return predict_windows(predict, batch["image"], windows=self.num_windows, flip=self.flip)

    def metric_kwargs(self) -> dict[str, Any]:
        """The crop."""
        return {"crop": None if self.crop is None else CROPS[self.crop]}

    def transforms(self) -> list[Transform]:
        """KITTI's benchmark crop."""
        return [KittiCrop()] if self.kitti_crop else []


def save_result(outputs: list[Array], image: NDArray[np.uint8], boxes: list[list[float]], facts: dict[str, Any]) -> str:
    """Write depth_mm.png, 16-bit millimeters, at the image's size."""
    depth_mm = np.rint(resized(outputs[0], image.shape[:2], between)[0].astype(np.float64) * 1000)
    # Millimeters end at 65.535 m.
    Image.fromarray(depth_mm.clip(0, 65535).astype(np.uint16)).save("depth_mm.png")
    return "depth_mm.png"


@dataclass(frozen=True, kw_only=True)
class Depth(FusedTask):
    """Settings of metric depth.

    Attributes:
        max_depth_m: largest depth that the head can predict, in meters
        min_depth_m: ground truth must be above this value to be scored, in meters
        mask_out_of_range: exclude unscored ground truth, outside min_depth_m to max_depth_m, from the loss.
            False for the released code's rule, which trains on everything above 0
        margin_blocks: number of blocks of 64 pixels beyond H // 64 to which the image is enlarged for the backbone
            (released code: NYU 1, KITTI 2; 0 leaves multiples of 64 as they are)
        filters: channels of the head's transposed convolutions
        width: channels of the head's convolutions
        variance_focus: see `silog`
        gradient_weight: weight of the gradient-matching term added to SILog, see `gradient_matching`; 0 disables it
        log_scale: calibration by ``metaprompts calibrate``: ln depth = log_scale * ln(the head's depth) + log_shift
        log_shift: see log_scale
        focal_px: focal length of the training images in pixels, at the size that the model sees, for ``metaprompts
            predict --intrinsics-of-training``; none if unknown, or if it varies
    """

    name: ClassVar[str] = "depth"
    data: ClassVar[type[Any]] = DepthData
    augment: ClassVar[type[Any]] = DepthAugment
    protocol: ClassVar[type[EvaluationProtocol]] = DepthProtocol
    metrics: ClassVar[tuple[str, ...]] = DEPTH_SCORES
    best_by: ClassVar[Mapping[str, Literal["higher", "lower"]]] = {"rmse": "lower", "rel": "lower", "d1": "higher"}
    nothing_scored: ClassVar[str] = "no pixel in the validation split has a depth in range"
    published: ClassVar[str | None] = "nyu"
    published_size: ClassVar[tuple[int, int]] = (480, 480)
    sheet_cell: ClassVar[tuple[int, int]] = (360, 320)
    example: ClassVar[Callable[..., str]] = staticmethod(save_result)
    hub_task: ClassVar[str | None] = "depth-estimation"
    about: ClassVar[About] = About(
        title="Metric depth: the distance of each pixel in meters",
        text="Near is bright, far is dark; truth and prediction of a scene share the scale in meters below them. Black "
        "in the truth is the sky: its depth is neither known nor scored.",
        scores={
            "d1": "share of pixels whose depth is within a factor of 1.25 of the truth",
            "rmse": "root of the mean squared error, in meters: far errors count most",
            "rel": "mean error as a share of the true depth",
        },
        constant="the mean depth at each pixel",
    )

    max_depth_m: Annotated[float, Range(0, 1e6, above=True)]
    min_depth_m: Annotated[float, Range(0, 1e6, above=True)] = 1e-3
    mask_out_of_range: bool = True
    margin_blocks: Annotated[int, Range(0, 64)] = 1
    filters: Annotated[int, Range(1, 16384)] = 32
    width: Annotated[int, Range(1, 16384)] = 192
    variance_focus: Annotated[float, Range(0, 1)] = 0.5
    gradient_weight: Annotated[float, Range(0, 1e6)] = 0.0
    log_scale: Annotated[float, Range(0.01, 100)] = 1.0
    log_shift: Annotated[float, Range(-50, 50)] = 0.0
    focal_px: Annotated[float, Range(0, 1e6, above=True)] | None = None

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

    def training_transforms(self, data: Any, augment: Any, test: Any) -> list[Transform]:
        """KITTI's benchmark crop comes before augmentation, as in the released code."""
        return [*test.transforms(), *augment.transforms(data, self.max_depth_m)]

    def empty_targets(self, images: int, height: int, width: int) -> dict[str, Tensor]:
        return {"depth_m": torch.empty(images, height, width)}

    def sample_statistics(self) -> DepthStatistics:
        return DepthStatistics(min_depth_m=self.min_depth_m, max_depth_m=self.max_depth_m)

    def check_samples(self, samples: SampleDataset, name: str, *, warns: bool = True) -> None:
        """Check that at least one pixel has depth in range, and log the fraction out of range in a few samples."""
        statistics = self.sample_statistics()
        for sample in readable_samples(samples, at_most=_TRIED):
            statistics.update(sample)
        if statistics.images == statistics.unusable > 0:
            self._check_any_usable(samples, name)
        if warns and (hint := statistics.units_hint()):
            logger.warning("%s%s", name, hint)
        if warns and statistics.too_far:
            treated = "masked" if self.mask_out_of_range else "trained on, as task.mask_out_of_range is false"
            logger.warning("%s, %s; %s", name, statistics.range_line(), treated)

    def _check_any_usable(self, samples: SampleDataset, name: str) -> None:
        found = self.sample_statistics()
        for sample in readable_samples(samples):
            found.update(sample)
            if found.images > found.unusable:
                return
        raise InputError(
            f"no image of the {name} has depth between task.min_depth_m {self.min_depth_m:g} and task.max_depth_m "
            f"{self.max_depth_m:g} ({found.range_line()}): correct the depth files, data.depth_scale or "
            f"task.max_depth_m{found.units_hint()}"
        )

    def head(self, channels: int, levels: int) -> nn.Module:
        from metaprompts.modules.heads.deconv import DepthHead

        return DepthHead(
            channels,
            filters=self.filters,
            width=self.width,
            max_depth_m=self.max_depth_m,
            upsample=self.upsample,
            log_scale=self.log_scale,
            log_shift=self.log_shift,
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
            batch: "depth_m" (B, H, W), 0 where nothing was measured, infinite in the sky, which is trained to be just
                short of ``max_depth_m``
        """
        target_m = batch["depth_m"]
        target_m = torch.where(target_m.isinf(), _SKY_SHARE * self.max_depth_m, target_m)
        if self.mask_out_of_range:
            scored = in_range(target_m, self.min_depth_m, self.max_depth_m)
            target_m = target_m.masked_fill(~scored, 0)
        predicted_m = self.at_size(raw, target_m.shape[-2:])
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

    def metric(self, **metric_kwargs: Any) -> DepthScores:
        return DepthScores(min_depth_m=self.min_depth_m, max_depth_m=self.max_depth_m, crop=metric_kwargs.get("crop"))

    def at_size(self, raw: Tensor, size: Sequence[int]) -> Tensor:
        """Raw output (B, 1, h, w) to meters (B, H, W) of this size."""
        return at_size(raw, size).squeeze(1)

    def score(self, metric: DepthScores, raw: Tensor, batch: Batch) -> None:
        target_m = batch["depth_m"]
        metric.update(self.at_size(raw, target_m.shape[-2:]), target_m)

    def constant_output(self, batches: Iterable[Batch]) -> Tensor:
        """(1, 1, H, W): the geometric mean of measured depth at each position, because depth errors are ratios."""
        total, count = torch.zeros(()), torch.zeros(())
        for batch in batches:
            depth_m = batch["depth_m"].float().unsqueeze(1)
            measured = depth_m > 0
            total = total + torch.where(measured, depth_m.clamp_min(1e-3).log(), 0).sum(dim=0, keepdim=True)
            count = count + measured.sum(dim=0, keepdim=True)
        overall = total.sum() / count.sum()
        return torch.where(count > 0, total / count.clamp_min(1), overall).exp()

    def prompt_responses(self, prompts: int) -> DepthResponses:
        return DepthResponses(prompts, min_depth_m=self.min_depth_m, max_depth_m=self.max_depth_m)

    def draw_target(self, sample: Sample) -> ImageArray:
        """Depth as color; the sky at the largest measured depth."""
        assert sample.depth_m is not None
        near, far = depth_range(sample.depth_m)
        return color_depth(np.where(np.isposinf(sample.depth_m), far, sample.depth_m), near, far)

    def draw_prediction(self, prediction: Any, sample: Sample) -> ImageArray:
        """A prediction, drawn in the color range of the ground truth."""
        assert sample.depth_m is not None
        return color_depth(prediction.depth_m, *depth_range(sample.depth_m), valid=prediction.valid)

    def scale(self, sample: Sample, width: int) -> ImageArray:
        assert sample.depth_m is not None
        return depth_legend(*depth_range(sample.depth_m), width)

    def legend_entries(self, shown: Any) -> set[int]:
        """One entry, for black pixels."""
        return set() if (shown.depth_m > 0).all() else {0}

    def legend(self, entries: Iterable[int], width: int) -> ImageArray:
        black = "; black: no depth, not scored" if set(entries) else ""
        return sentences([BRIGHTNESS_NOTE + black], width, _LEGEND_PX)

    def draw_sample(self, sample: Sample) -> ImageArray:
        assert sample.depth_m is not None
        small = shrunk(replace(sample, depth_m=visible_points(sample.depth_m)))
        assert small.depth_m is not None
        return stack_down(small.image, color_depth(small.depth_m))

    def export_output(self, size: tuple[int, int]) -> dict[str, Any]:
        return {
            "name": "depth_m",
            "shape": ["batch", 1, *(side // 8 * 8 for side in size)],
            "meaning": "Depth in meters.",
            "max_depth_m": self.max_depth_m,
        }

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


def silog(predicted_m: Tensor, target_m: Tensor, *, variance_focus: float) -> Tensor:
    """The scale-invariant log loss of `metrics.depth.silog`, over the measured pixels of a batch.

    Args:
        predicted_m: meters, above 0, any shape
        target_m: meters, the same shape; pixels at 0 are ignored
        variance_focus: lambda in [0, 1]: 1 ignores a wrong scale entirely, 0 not at all

    Returns:
        scalar; 0 (with zero gradient) when nothing was measured
    """
    measured = target_m > 0
    if not measured.any():
        return predicted_m.sum() * 0
    # The root's slope at 0 is infinite, so the value is clamped just above it.
    return depth_metrics.silog(
        predicted_m[measured], target_m[measured], variance_focus=variance_focus, smallest=_SMALLEST_SPREAD
    )


def gradient_matching(predicted_m: Tensor, target_m: Tensor) -> Tensor:
    """The difference between log-depth gradients and the target's, at four scales; keeps edges sharp.

    The mean over pairs of measured neighbors of |d(q) - d(p)|, with d = ln prediction - ln target; summed over both
    directions and over every 1st, 2nd, 4th and 8th pixel. Source: MiDaS (Ranftl et al., TPAMI 2020), equation 11, which
    uses disparity where we use log depth, as SILog does.

    Args:
        predicted_m: (B, H, W) meters, above 0
        target_m: (B, H, W) meters; pixels at 0 are ignored

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
