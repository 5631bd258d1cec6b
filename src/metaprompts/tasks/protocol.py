"""The base of test protocols, the ``test`` section of recipes. By default each image is predicted once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from metaprompts.data.transforms.transform import Transform

if TYPE_CHECKING:
    from torch import Tensor

    from metaprompts.tasks.predictor import Predictor

Batch: TypeAlias = "Mapping[str, Tensor]"


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
    def predict(self, model: Predictor, batch: Batch) -> Tensor:
        """The raw output that the task scores.

        Args:
            model: (B,3,h,w) -> raw output
            batch: "image" (B,3,H,W), for other scales "image@RATIO", and "context" if the model reads captions
        """

    def quick(self) -> Self:
        """The protocol without test-time augmentation, for validation during training."""
        return replace(self, flip=False)

    def metric_kwargs(self) -> dict[str, Any]:
        """The arguments that the protocol passes to the task's metric."""
        return {}

    def transforms(self) -> list[Transform]:
        """The first transform of image and target."""
        return []

    def ratios(self) -> tuple[float, ...]:
        """The scales at which an image is predicted; 1 is the size in the data section."""
        return (1.0,)


def original_size(batch: Batch) -> tuple[int, int]:
    """Output height and width of a batch's predictions: the labels', else the image's before resizing."""
    if "labels" in batch:
        return batch["labels"].shape[-2], batch["labels"].shape[-1]
    if "original_size" in batch:
        height, width = batch["original_size"][0].tolist()
        return int(height), int(width)
    return batch["image"].shape[-2], batch["image"].shape[-1]
