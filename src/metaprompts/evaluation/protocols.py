"""Test protocols: the ``test`` section of recipes. By default each image is predicted once."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import torch
from torch import Tensor

from metaprompts.data.joints import mirrored_order
from metaprompts.data.transforms.kitti_crop import KittiCrop
from metaprompts.data.transforms.transform import Transform
from metaprompts.errors import InputError
from metaprompts.evaluation.tta import mean_probabilities
from metaprompts.inference.predictor import with_context
from metaprompts.inference.sliding_window import predict_windows
from metaprompts.metrics.depth_errors import CROPS
from metaprompts.utils.schema import Range, check_ranges

if TYPE_CHECKING:
    from metaprompts.inference.predictor import Predictor

Batch = Mapping[str, Tensor]


def scaled_name(ratio: float) -> str:
    """The batch key of images at a scale."""
    return "image" if ratio == 1 else f"image@{ratio:g}"


@dataclass(frozen=True, kw_only=True)
class EvaluationProtocol(ABC):
    """The common keys of ``test`` sections.

    Attributes:
        flip: also predict the mirrored image and average
    """

    flip: bool = False

    @abstractmethod
    def predict(self, model: "Predictor", batch: Batch) -> Tensor:
        """The raw output that the task scores.

        Args:
            model: (B,3,h,w) -> raw output
            batch: "image" (B,3,H,W), for other scales "image@RATIO", and "context" if the model reads captions
        """

    def quick(self) -> Self:
        """The protocol without test-time augmentation, for validation during training."""
        return replace(self, flip=False)

    def metric_kwargs(self) -> dict[str, Any]:
        """The protocol's arguments for the task's metric."""
        return {}

    def transforms(self) -> list[Transform]:
        """The first transform of image and target."""
        return []

    def ratios(self) -> tuple[float, ...]:
        """The scales at which an image is predicted; 1 is the size in the data section."""
        return (1.0,)


@dataclass(frozen=True, kw_only=True)
class SegmentationProtocol(EvaluationProtocol):
    """Test protocol of segmentation. Windows average logits; scales and mirror images average softmax outputs.

    Attributes:
        window: side of square windows, in pixels (ADE20K: 512; Cityscapes: 1024); none for the whole image at once
        stride: step between windows, in pixels (ADE20K: 341; Cityscapes: 512); none for half a window
        scales: scale factors of images (published: 0.5,0.75,1,1.25,1.5,1.75,2)
        window_batch: windows per forward pass
    """

    window: Annotated[int, Range(1, 65536)] | None = None
    stride: Annotated[int, Range(1, 65536)] | None = None
    # Larger factors are typing errors; published ones are 0.5 to 2.
    scales: tuple[Annotated[float, Range(0, 16, above=True)], ...] = (1.0,)
    window_batch: Annotated[int, Range(1, 65536)] = 1

    def __post_init__(self) -> None:
        check_ranges(self, "test")
        if self.stride is not None and self.stride > (self.window or 0):
            raise InputError(
                f"test.stride is {self.stride} and test.window {self.window or 'none'}: expected a stride of at most "
                "the window's side, which leaves no gaps"
            )
        if not self.scales:
            raise InputError("test.scales is empty; expected numbers such as 0.5,1,2")
        if len(set(self.scales)) != len(self.scales):
            raise InputError(f"test.scales is {list(self.scales)}; expected each scale once")

    def predict(self, model: "Predictor", batch: Batch) -> Tensor:
        """Logits (B,C,H,W) if an image is predicted once, else probabilities (B,C,H,W) at the labels' size."""
        predict = with_context(model, batch)
        if self.window is None and not self.flip and self.scales == (1.0,):
            return predict(batch["image"])
        return mean_probabilities(
            predict,
            [batch[scaled_name(scale)] for scale in self.scales],
            original_size(batch),
            windows=None if self.window is None else (self.window, self.stride or max(self.window // 2, 1)),
            flip=self.flip,
            batch=self.window_batch,
        )

    def quick(self) -> Self:
        """One scale, no mirror image; windows stay, because the model was trained at their size."""
        return replace(self, flip=False, scales=(1.0,))

    def ratios(self) -> tuple[float, ...]:
        """The scales."""
        return self.scales


@dataclass(frozen=True, kw_only=True)
class DepthProtocol(EvaluationProtocol):
    """Test protocol of depth. Windows and mirror images are averaged in meters.

    Attributes:
        num_windows: number of square windows along the long side (NYU: 2, KITTI: 16); none for the whole image at once
        crop: evaluated region: nyu (rows 45:471, columns 41:601), garg or eigen (KITTI); none for all
        kitti_crop: first crop images and depth to KITTI's benchmark crop: the lowest 352 rows, the middle 1216 columns;
            training does so as well
    """

    num_windows: Annotated[int, Range(2, 1024)] | None = None
    crop: Literal["nyu", "garg", "eigen"] | None = None
    kitti_crop: bool = False

    def __post_init__(self) -> None:
        check_ranges(self, "test")

    def predict(self, model: "Predictor", batch: Batch) -> Tensor:
        """Meters (B,1,h,w)."""
        predict = with_context(model, batch)
        if self.num_windows is None and not self.flip:
            return predict(batch["image"])
        return predict_windows(predict, batch["image"], windows=self.num_windows, flip=self.flip)

    def metric_kwargs(self) -> dict[str, Any]:
        """The crop."""
        return {"crop": None if self.crop is None else CROPS[self.crop]}

    def transforms(self) -> list[Transform]:
        """KITTI's benchmark crop."""
        return [KittiCrop()] if self.kitti_crop else []


@dataclass(frozen=True, kw_only=True)
class PoseProtocol(EvaluationProtocol):
    """Test protocol of pose; averages heatmaps of the crop and, with left and right swapped, of its mirror image.

    A person's final score is box score x mean of the joint scores above 0.2, as in mmpose and SimpleBaseline.

    Attributes:
        oks_nms: OKS threshold of non-maximum suppression within an image (published: 0.9, for detected boxes); none
            keeps all
    """

    oks_nms: Annotated[float, Range(0, 1, above=True)] | None = None

    def __post_init__(self) -> None:
        check_ranges(self, "test")

    def predict(self, model: "Predictor", batch: Batch) -> Tensor:
        """Heatmaps (B,J,h,w). They are not shifted: lengths between pixel centers (UDP) mirror onto themselves."""
        predict = with_context(model, batch)
        heatmaps = predict(batch["image"]).float()
        if not self.flip:
            return heatmaps
        task: Any = model.task
        order = torch.tensor(mirrored_order(task.joints, task.flip_pairs), device=heatmaps.device)
        mirrored = predict(batch["image"].flip(-1)).float()
        return (heatmaps + mirrored.flip(-1)[:, order]) / 2

    def metric_kwargs(self) -> dict[str, Any]:
        """The threshold of non-maximum suppression."""
        return {"oks_nms": self.oks_nms}


PROTOCOLS: dict[str, type[EvaluationProtocol]] = {
    "segmentation": SegmentationProtocol,
    "depth": DepthProtocol,
    "pose": PoseProtocol,
}


def original_size(batch: Batch) -> tuple[int, int]:
    """Output height and width of a batch's predictions: the labels', else the image's before resizing."""
    if "labels" in batch:
        return batch["labels"].shape[-2], batch["labels"].shape[-1]
    if "original_size" in batch:
        height, width = batch["original_size"][0].tolist()
        return int(height), int(width)
    return batch["image"].shape[-2], batch["image"].shape[-1]
