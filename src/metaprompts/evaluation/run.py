"""Score a model on a split; training and evaluation both call it."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from metaprompts.tasks import Task


class Predictor(Protocol):
    """What can be scored: a model, or a baseline."""

    training: bool

    @property
    def task(self) -> "Task":
        """Says how outputs are scored."""

    @property
    def device(self) -> torch.device:
        """Where it wants its pictures."""

    def __call__(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1] to raw outputs."""

    def train(self, mode: bool = True) -> Any:
        """Switch training mode."""

    def eval(self) -> Any:
        """Switch to evaluation mode."""


@torch.no_grad()
def evaluate(
    model: Predictor,
    batches: Iterable[dict[str, Tensor]],
    *,
    facts: dict[str, Any],
    on_batch: Callable[[int], None] = lambda pictures: None,
) -> dict[str, Any]:
    """Predict every batch and score the whole split.

    Args:
        model: is put into evaluation mode, and back afterwards
        batches: what a DataLoader over `Transformed` gives
        facts: what the task's scorer needs to know of the split, see `Task.scorer`
        on_batch: called with the number of pictures after each batch

    Returns:
        the metric's numbers by name
    """
    was_training = model.training
    model.eval()
    scorer = model.task.scorer(**facts)
    try:
        for batch in batches:
            moved = {name: tensor.to(model.device) for name, tensor in batch.items()}
            # Metrics sum in float64, which not every device has.
            on_cpu = {name: tensor.cpu() for name, tensor in moved.items() if name != "image"}
            model.task.score(scorer, model(moved["image"]).float().cpu(), on_cpu)
            on_batch(len(moved["image"]))
    finally:
        model.train(was_training)
    scores: dict[str, Any] = scorer.compute()
    return scores
