"""Predict images at their own resolution, in overlapping windows; memory does not grow with the image's height."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metaprompts.errors import InputError
from metaprompts.inference.predict import RawFilter, context_of, forward_raw
from metaprompts.tasks.predictor import ImagePredictor
from metaprompts.tasks.sliding_window import check_no_gaps, slide_rows
from metaprompts.utils.torch_modules import eval_mode
from metaprompts.visualize.text import ImageArray

if TYPE_CHECKING:
    from metaprompts.tasks.predictions import Prediction

# The UNet's input is an eighth of the image, and is halved three times.
_SMALLEST = 64


@dataclass(frozen=True)
class Windows:
    """A grid of windows; the last windows are shifted back to the image's edge.

    Attributes:
        size: (height, width) of each window in pixels; limited to the image's size
        stride: (vertical, horizontal) step, in pixels, at most the size

    Raises:
        InputError: the windows are too small, or leave gaps
    """

    size: tuple[int, int]
    stride: tuple[int, int]

    def __post_init__(self) -> None:
        if min(self.size) < _SMALLEST:
            raise InputError(f"windows of {_times(self.size)} requested; expected at least {_SMALLEST}x{_SMALLEST}")
        check_no_gaps(self.size, self.stride)

    @classmethod
    def of(cls, size: tuple[int, int] | None, stride: tuple[int, int] | None = None) -> Self:
        """Windows of a size, overlapping by half by default.

        Raises:
            InputError: only a stride is given, or the windows are too small or leave gaps
        """
        if size is None:
            raise InputError(f"got a stride of {stride} without a window: give both or neither")
        return cls(size, stride or (size[0] // 2, size[1] // 2))

    def held_bytes(self, height: int, width: int, outputs: int) -> int:
        """Memory per image, in addition to the memory for one window.

        Args:
            height: height of the image, in pixels
            width: width of the image, in pixels
            outputs: channels of the raw output
        """
        tall, wide = min(self.size[0], height), min(self.size[1], width)
        # In single precision: sums and counts of unfinished rows, a window's output, and depth, or confidence and
        # labels. In bytes: the image.
        rows, window = (outputs + 1) * tall * width, outputs * tall * wide
        return 4 * (rows + window + 2 * height * width) + 3 * height * width

    def within(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of an image's windows at the model's input."""
        inside = min(self.size[0], height), min(self.size[1], width)
        return max(inside[0], _SMALLEST), max(inside[1], _SMALLEST)


@torch.inference_mode()
def predict_in_windows(
    model: ImagePredictor,
    image: ImageArray,
    windows: Windows,
    boxes: Any = None,
    caption: str | Tensor | None = None,
    batch: int = 1,
    raw_filter: RawFilter | None = None,
) -> "Prediction":
    """Predict an image without resizing it, and average overlapping windows: logits, or depth in meters.

    Metric depth depends on the image scale used in training: use windows only for images of about that scale.

    Args:
        model: a model for segmentation or depth
        image: uint8 RGB (H, W, 3)
        windows: the grid of windows
        boxes: must be None; windows do not support pose
        caption: caption of the whole image, a text or encoded (N, D), if the prompts are captions
        batch: windows per forward pass
        raw_filter: changes the raw output of the whole image, which is then held as a whole

    Returns:
        the prediction at the image's own size

    Raises:
        InputError: the task is not predicted in windows, or a caption is missing or unexpected
    """
    if boxes is not None:
        raise InputError("got windows as well as boxes of people: give boxes for pose, windows for other tasks")
    context = context_of(model, caption)

    def predict(crops: Tensor) -> Tensor:
        of_crops = None if context is None else context.expand(len(crops), -1, -1)
        return forward_raw(model, _enlarged(crops.float().div_(255)), of_crops)

    with eval_mode(model):
        # The image stays in bytes and only crops become floats, because the image may be very large.
        tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        rows = slide_rows(predict, tensor, window=windows.size, stride=windows.stride, batch=batch)
        if raw_filter is not None:
            rows = iter([(0, raw_filter(image, torch.cat([some for _, some in rows], dim=1)))])
        return model.task.assemble_rows(image, rows)


def _enlarged(crops: Tensor) -> Tensor:
    """Crops of an image smaller than the smallest window, resized to that window."""
    height, width = crops.shape[-2:]
    if min(height, width) >= _SMALLEST:
        return crops
    size = (max(height, _SMALLEST), max(width, _SMALLEST))
    return F.interpolate(crops, size=size, mode="bilinear", align_corners=False)


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
