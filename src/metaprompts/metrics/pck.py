"""The percentage of correct keypoints."""

import torch
from torch import Tensor
from torchmetrics import Metric

from metaprompts.errors import InputError


class PercentageCorrectKeypoints(Metric):  # type: ignore[misc]
    """PCK: the fraction of labeled joints that lie within ``threshold`` times the long side of the person's box.

    Joints are pooled over people and processes before dividing.

    Args:
        threshold: allowed distance, as a fraction of the box's long side
    """

    full_state_update = False
    higher_is_better = True
    correct: Tensor
    labeled: Tensor

    def __init__(self, threshold: float = 0.2) -> None:
        super().__init__()
        self.threshold = threshold
        self.add_state("correct", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("labeled", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, target: Tensor, box_xywh: Tensor) -> None:
        """Count the joints of a batch.

        Args:
            predicted: (B,J,2) pixels
            target: (B,J,3) x, y in pixels and visibility; only joints with visibility > 0 count
            box_xywh: (B,4) pixels

        Raises:
            InputError: the shapes do not match
        """
        people, joints = predicted.shape[:2]
        if predicted.shape[2:] != (2,) or target.shape != (people, joints, 3) or box_xywh.shape != (people, 4):
            raise InputError(
                f"shapes for PCK are predictions {tuple(predicted.shape)}, targets {tuple(target.shape)}, boxes "
                f"{tuple(box_xywh.shape)}; expected (B,J,2), (B,J,3) and (B,4)"
            )
        reach = self.threshold * box_xywh[:, 2:].amax(1, keepdim=True)
        labeled = target[..., 2] > 0
        near = (predicted - target[..., :2]).square().sum(-1).sqrt() <= reach
        self.correct += (near & labeled).sum().to(self.correct.device)
        self.labeled += labeled.sum().to(self.labeled.device)

    def compute(self) -> dict[str, float]:
        """The fraction of correct joints over all processes; see `scores`."""
        return self.scores()

    def scores(self) -> dict[str, float]:
        """The fraction of correct joints in this process.

        Returns:
            ``pck@THRESHOLD`` in 0..1, nan if no joint was labeled
        """
        return {f"pck@{self.threshold:g}": (self.correct.double() / self.labeled).item()}
