"""The interfaces of models that predict, and of test protocols, the ``test`` section of recipes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeAlias, runtime_checkable

from metaprompts.data.transforms.transform import Transform
from metaprompts.utils.lazy import lazy_module
from metaprompts.utils.schema import check_ranges

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from metaprompts.tasks.base import Task
else:
    torch = lazy_module("torch")

Batch: TypeAlias = "Mapping[str, Tensor]"


class AdaptiveOutput(NamedTuple):
    """Raw outputs with different numbers of steps.

    Attributes:
        raw: (B, ...), the output of each image's last step
        agreement: (B, h, w), from 0 to 1, of each image's last two steps, see `Task.disagreement`
        steps: (B,), number of steps of each image
    """

    raw: Tensor
    agreement: Tensor
    steps: Tensor


class Predictor(Protocol):
    """The interface that evaluation requires of a model or a baseline."""

    training: bool

    @property
    def task(self) -> Task:
        """The task, which scores the outputs."""

    @property
    def device(self) -> torch.device:
        """The device that input images must be on."""

    @property
    def __call__(self) -> Callable[..., Tensor]:
        """Map images (B, 3, H, W) in [0, 1], and captions (B, N, D) if the model reads them, to raw outputs."""

    def train(self, mode: bool = True) -> Any:
        """Switch training mode on or off."""

    def eval(self) -> Any:
        """Switch to evaluation mode."""


class ImagePredictor(Predictor, Protocol):
    """The interface for predicting images of any size: a `MetaPromptModel`, or a model run by an engine."""

    @property
    def config(self) -> Any:
        """The model's config; ``working_size`` is the (height, width) whose area images are resized to, or None."""

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of input images."""

    def encode_captions(self, captions: Sequence[str]) -> Tensor:
        """Encode B texts as (B, N, D)."""


@runtime_checkable
class AdaptivePredictor(Protocol):
    """The interface of models that can choose the number of refinement steps by how well successive steps agree."""

    tolerance: float | None
    """The mean disagreement of two steps at which refinement stops; None to run all steps."""

    def adaptive_output(self, images: Tensor, context: Tensor | None = None) -> AdaptiveOutput:
        """Predict with as many steps as each image needs; only with a ``tolerance``."""


def with_context(model: Predictor, batch: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """A function that predicts views of a batch's images, each with the caption of its own image.

    Args:
        model: (n, 3, h, w) and a context, if the batch has one -> raw output
        batch: "context" (B, N, D), if the model reads captions

    Returns:
        (n, 3, h, w) -> raw output, where the n views are the first view of each image, then the second of each, and so
        on
    """
    context = batch.get("context")
    if context is None:
        return model

    def predict(views: Tensor) -> Tensor:
        return model(views, context.repeat(len(views) // len(context), 1, 1))

    return predict


def scaled_name(ratio: float) -> str:
    """The batch key of images at a scale."""
    return "image" if ratio == 1 else f"image@{ratio:g}"


@dataclass(frozen=True, kw_only=True)
class EvaluationProtocol(ABC):
    """The common keys of ``test`` sections. By default each image is predicted once.

    Attributes:
        flip: also predict the mirrored image and average
    """

    flip: bool = False

    def __post_init__(self) -> None:
        check_ranges(self, "test")

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
