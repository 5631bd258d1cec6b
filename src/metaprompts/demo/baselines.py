"""Baselines that ignore the image: the floor of each metric."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metaprompts.tasks import Depth, Pose, Segmentation, Task


class Constant(nn.Module):
    """A constant prediction for every image, with the interface of a model for `evaluate`.

    Args:
        task: the task that scores its output
        raw: (1, ...) the constant output
    """

    def __init__(self, task: Task, raw: Tensor) -> None:
        super().__init__()
        self.task = task
        self.raw = raw
        self.device = raw.device

    def forward(self, images: Tensor) -> Tensor:
        """Repeat the output for each of (B, 3, H, W) images."""
        return self.raw.expand(len(images), *self.raw.shape[1:])


def best_constant(task: Task, batches: Iterable[dict[str, Tensor]]) -> Constant:
    """The best constant prediction: the most frequent class, mean depth or mean joint at each position.

    Args:
        task: the task of the metric
        batches: batches of training images, all of one size
    """
    if isinstance(task, Segmentation):
        return Constant(task, _class_counts(batches, len(task.classes)))
    if isinstance(task, Depth):
        return Constant(task, _mean_depth(batches))
    assert isinstance(task, Pose)
    return Constant(task, task.encode({"keypoints": _mean_joints(batches)}))


def _class_counts(batches: Iterable[dict[str, Tensor]], classes: int) -> Tensor:
    """(1, classes, H, W): the number of occurrences of each class at each position, used as logits."""
    counts = []
    for batch in batches:
        # Ignored pixels get their own channel, which is removed.
        labels = batch["labels"].long().clamp(max=classes)
        counts.append(F.one_hot(labels, classes + 1)[..., :classes].sum(dim=0))
    return torch.stack(counts).sum(dim=0).permute(2, 0, 1)[None].float()


def _mean_depth(batches: Iterable[dict[str, Tensor]]) -> Tensor:
    """(1, 1, H, W): the geometric mean of measured depth at each position, because depth errors are ratios."""
    total, count = torch.zeros(()), torch.zeros(())
    for batch in batches:
        depth = batch["depth_m"].float().reshape(len(batch["depth_m"]), 1, *batch["depth_m"].shape[-2:])
        measured = depth > 0
        total = total + torch.where(measured, depth.clamp_min(1e-3).log(), 0).sum(dim=0, keepdim=True)
        count = count + measured.sum(dim=0, keepdim=True)
    overall = total.sum() / count.sum()
    return torch.where(count > 0, total / count.clamp_min(1), overall).exp()


def _mean_joints(batches: Iterable[dict[str, Tensor]]) -> Tensor:
    """(1, J, 3): the mean position of each joint over all crops."""
    keypoints = torch.cat([batch["keypoints"] for batch in batches]).float()
    labeled = keypoints[..., 2:] > 0
    mean = (keypoints[..., :2] * labeled).sum(dim=0) / labeled.sum(dim=0).clamp_min(1)
    return torch.cat([mean, torch.full((len(mean), 1), 2.0)], dim=-1)[None]
