"""Interfaces of models, for evaluation and for prediction."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from metaprompts.tasks import Task


class Predictor(Protocol):
    """What evaluation needs of a model, or of a baseline."""

    training: bool

    @property
    def task(self) -> "Task":
        """Scores the outputs."""

    @property
    def device(self) -> torch.device:
        """Of the images that it takes."""

    @property
    def __call__(self) -> Callable[..., Tensor]:
        """Images (B, 3, H, W) in [0, 1], and captions (B, N, D) where it reads them, to raw outputs."""

    def train(self, mode: bool = True) -> Any:
        """Switch training mode."""

    def eval(self) -> Any:
        """Switch to evaluation mode."""


class ImageConfig(Protocol):
    """What prediction reads of a model's config."""

    @property
    def working_size(self) -> tuple[int, int] | None:
        """Height and width to whose area images are resized."""


class ImagePredictor(Predictor, Protocol):
    """What prediction of images of any size needs: a `MetaPromptModel`, or one that an engine runs."""

    @property
    def config(self) -> "ImageConfig":
        """The model's."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the images that it takes."""

    def encode_captions(self, captions: Sequence[str]) -> Tensor:
        """B texts to (B, N, D)."""


def with_context(model: Predictor, batch: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """A function that predicts views of a batch's images, each with the caption of its own image.

    Args:
        model: (n, 3, h, w) and a context, if the batch has one -> raw output
        batch: "context" (B, N, D), if the model reads captions

    Returns:
        (n, 3, h, w) -> raw output, where the n views are one of each image, then the next of each, and so on
    """
    context = batch.get("context")
    if context is None:
        return model

    def predict(views: Tensor) -> Tensor:
        return model(views, context.repeat(len(views) // len(context), 1, 1))

    return predict
