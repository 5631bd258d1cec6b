"""How pictures are shown to a model: together with their captions, if it reads any."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from metaprompts.evaluation.evaluate import Predictor


def look_with(model: "Predictor", batch: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """A function that predicts views of a batch's pictures, each with its own picture's caption.

    Args:
        model: (n, 3, h, w) and a context, if the batch has one -> raw output
        batch: "context" (B, N, D), if the model reads captions

    Returns:
        (n, 3, h, w) -> raw output, where the n views are one of each picture, then the next of each, and so on
    """
    context = batch.get("context")
    if context is None:
        return model

    def look(views: Tensor) -> Tensor:
        return model(views, context.repeat(len(views) // len(context), 1, 1))

    return look
