"""The interfaces of models that evaluation and prediction use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from metaprompts.utils.lazy import lazy_module

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from metaprompts.tasks.base import Task
else:
    torch = lazy_module("torch")


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


class ImageConfig(Protocol):
    """The part of a model's config that prediction reads."""

    @property
    def working_size(self) -> tuple[int, int] | None:
        """(height, width) whose area images are resized to."""


class ImagePredictor(Predictor, Protocol):
    """The interface for predicting images of any size: a `MetaPromptModel`, or a model run by an engine."""

    @property
    def config(self) -> ImageConfig:
        """The model's config."""

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
