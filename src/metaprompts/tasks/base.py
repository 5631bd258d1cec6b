"""The task interface: the part of the model that depends on the perception task."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from metaprompts.errors import InputError
from metaprompts.modules.meta_prompts import FusedRearrangement, LevelRearrangement
from metaprompts.modules.meta_prompts.layers import Upsampling
from metaprompts.tasks.predictions import Prediction
from metaprompts.utils.wording import is_one_line

ImageArray = NDArray[np.uint8]
Batch = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelInput:
    """An image, or a part of one, as the model's input.

    Attributes:
        image: (3, h, w) float in [0, 1]
        box_xywh: the requested part of the image, in pixels
        score: confidence of the box, 1 for a whole image
        center: (2,) x and y of the crop's center in the image, if the view is a crop
        size: (2,) width and height of the crop in the image, if the view is a crop
    """

    image: Tensor
    box_xywh: NDArray[np.float32]
    score: float = 1.0
    center: NDArray[np.float32] | None = None
    size: NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """Head, loss, metric and decoding of one task. A frozen dataclass without state.

    Raw outputs are the outputs of `MetaPromptModel.forward`; targets are the target tensors of a batch from ``data``.
    """

    name: ClassVar[str]
    fused: ClassVar[bool] = False
    """Whether the head reads one map of all levels, or a map of each level."""
    metrics: ClassVar[tuple[str, ...]]
    """Names of the metrics of `metric` that compare models."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Channels of the raw output."""

    def rearrangement(self, levels: Sequence[int], prompt_channels: int, *, enabled: bool) -> nn.Module:
        """The rearrangement module for a pyramid with these channels: here, one map per level."""
        return LevelRearrangement(levels, prompt_channels, enabled=enabled)

    @abstractmethod
    def head(self, channels: int, levels: int) -> nn.Module:
        """The head, for maps of this many channels: (maps, (H, W)) -> raw output."""

    def auxiliary_head(self, channels: int) -> nn.Module | None:
        """An auxiliary head that is used only in training, if the task has one."""
        del channels
        return None

    def resize_for_backbone(self, images: Tensor) -> Tensor:
        """Resize images (B, 3, H, W) to the backbone's input size."""
        return images

    @abstractmethod
    def losses(self, raw: Tensor, auxiliary: Tensor | None, batch: Batch) -> dict[str, Tensor]:
        """The parts of the loss by name; training minimizes their sum."""

    @abstractmethod
    def encode(self, batch: Batch) -> Tensor:
        """The ideal raw output (B, ...) for a batch's targets."""

    @abstractmethod
    def decode(self, raw: Tensor) -> Tensor:
        """A raw output in the units of the targets."""

    @abstractmethod
    def metric(self, **metric_kwargs: Any) -> Any:
        """A fresh metric over a split; ``metric_kwargs`` describe the split."""

    @abstractmethod
    def score(self, metric: Any, raw: Tensor, batch: Batch) -> None:
        """Update the metric with a batch's raw output."""

    @abstractmethod
    def model_inputs(
        self, image: ImageArray, working_size: tuple[int, int] | None, boxes: Sequence[Any] | None
    ) -> Iterator[ModelInput]:
        """Yield the views of an image (H, W, 3) that the model predicts, each computed lazily.

        Args:
            image: uint8 RGB
            working_size: (height, width) of the images that the model was trained on; None for the image's own
            boxes: (x, y, width, height[, score]) of the people in it, in pixels; only pose reads them
        """

    @abstractmethod
    def assemble(self, image: ImageArray, outputs: Iterable[tuple[ModelInput, Tensor]]) -> Prediction:
        """Combine the views and their raw outputs (...) into a prediction at the image's own size; keeps no views."""

    def assemble_rows(self, image: ImageArray, rows: Iterable[tuple[int, Tensor]]) -> Prediction:
        """Convert raw outputs of windows, averaged and at the image's own size, to a prediction.

        Args:
            image: uint8 RGB (H, W, 3)
            rows: first row index and rows (C, h, W), from top to bottom; each item is consumed before the next

        Raises:
            InputError: the task does not support windows
        """
        del image, rows
        raise InputError(
            f"{self.name} is not predicted pixel by pixel, so not in windows either: leave window and stride out"
        )


@dataclass(frozen=True, kw_only=True)
class FusedTask(Task):
    """A task whose head reads one map, fused from all levels.

    Attributes:
        upsample: how fused rearrangement and head enlarge maps: "transposed" convolutions, as released, which leave a
            grid in smooth predictions, or "resize" (bilinear) and a 3x3 convolution
    """

    fused: ClassVar[bool] = True

    upsample: Upsampling = "transposed"

    def rearrangement(self, levels: Sequence[int], prompt_channels: int, *, enabled: bool) -> nn.Module:
        """The rearrangement module for a pyramid with these channels."""
        return FusedRearrangement(levels, prompt_channels, enabled=enabled, upsample=self.upsample)


def check_names_are_lines(key: str, names: Sequence[str]) -> None:
    """Check that names of classes or joints fit on one line of a message or table.

    Args:
        key: recipe key, for the error
        names: its value

    Raises:
        InputError: a name is empty, or has line breaks or control characters
    """
    for place, name in enumerate(names, 1):
        if not name.strip():
            raise InputError(f"{key} has an empty name, number {place} of {len(names)}: name it, or remove a comma")
        if not is_one_line(name):
            raise InputError(f"{key} has {name!r}: expected names without line breaks and control characters")
