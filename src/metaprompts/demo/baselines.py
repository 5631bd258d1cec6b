"""Baselines that ignore the image, as the floor of each metric."""

from collections.abc import Iterable

from torch import Tensor, nn

from metaprompts.tasks.base import Task


class Constant(nn.Module):
    """A constant prediction for every image, with the interface of a model for `evaluate`.

    Args:
        task: the task that scores the output
        raw: (1, ...) the constant output
    """

    def __init__(self, task: Task, raw: Tensor) -> None:
        super().__init__()
        self.task = task
        self.raw = raw
        self.device = raw.device

    def forward(self, images: Tensor) -> Tensor:
        """Repeat the output for each of the images (B, 3, H, W)."""
        return self.raw.expand(len(images), *self.raw.shape[1:])


def best_constant(task: Task, batches: Iterable[dict[str, Tensor]]) -> Constant:
    """The best constant prediction, see `Task.constant_output`."""
    return Constant(task, task.constant_output(batches))
