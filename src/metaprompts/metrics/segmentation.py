"""Mean intersection over union of semantic segmentation, from one confusion matrix over the whole split."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from metaprompts.errors import InputError


class SegmentationScores(Metric):  # type: ignore[misc]
    """mIoU, aAcc and mAcc, defined as in mmsegmentation's ``IoUMetric``.

    The confusion matrix is summed over images and processes before anything is divided, so the scores do not depend on
    how the split was divided into batches.

    Args:
        classes: number of classes; labels are 0..classes - 1
        ignore_index: label of ignored pixels; None to count every pixel
    """

    full_state_update = False
    higher_is_better = True
    confusion: Tensor

    def __init__(self, classes: int, ignore_index: int | None = 255) -> None:
        super().__init__()
        if classes < 1:
            raise InputError(f"the number of classes to score is {classes}; expected at least 1")
        self.classes = classes
        self.ignore_index = ignore_index
        # The last column is for predictions that are not a class, which count as misses, but against no other class.
        self.add_state("confusion", torch.zeros(classes, classes + 1, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Count one batch.

        Args:
            predicted: (B,H,W) integers, the class of each pixel; a value outside 0..classes - 1 is a miss
            labels: (B,H,W) integers in 0..classes - 1 or ``ignore_index``

        Raises:
            InputError: the shapes differ, or a label is neither a class nor ``ignore_index``
        """
        if predicted.shape != labels.shape:
            raise InputError(
                f"predicted classes are {tuple(predicted.shape)}, labels {tuple(labels.shape)}; expected the same "
                f"shape: resize the logits to the labels before taking the argmax"
            )
        device = self.confusion.device
        labels, predicted = labels.to(device, torch.int64).flatten(), predicted.to(device, torch.int64).flatten()
        if self.ignore_index is not None:
            counted = labels != self.ignore_index
            labels, predicted = labels[counted], predicted[counted]
        self._check_known(labels)
        predicted = torch.where((predicted < 0) | (predicted >= self.classes), self.classes, predicted)
        pairs = labels * (self.classes + 1) + predicted
        self.confusion += torch.bincount(pairs, minlength=self.confusion.numel()).view_as(self.confusion)

    def compute(self) -> dict[str, float | list[float]]:
        """The scores over all processes; see `scores`."""
        return self.scores()

    def scores(self) -> dict[str, float | list[float]]:
        """The scores over everything counted in this process.

        Returns:
            ``mIoU``: mean over the classes that occur in labels or predictions; ``aAcc``: fraction of counted pixels
            that
                are correct; ``mAcc``: mean over the classes that occur in the labels; ``iou_per_class``: one number per
            class. All in 0..1, and nan if the denominator is zero.
        """
        confusion = self.confusion.double()
        right = confusion.diagonal()
        labeled, predicted = confusion.sum(1), confusion.sum(0)[: self.classes]
        iou = right / (labeled + predicted - right)
        return {
            "mIoU": iou.nanmean().item(),
            "aAcc": (right.sum() / labeled.sum()).item(),
            "mAcc": (right / labeled).nanmean().item(),
            "iou_per_class": iou.tolist(),
        }

    def state(self) -> dict[str, Any]:
        """Everything counted so far, as plain values: ``confusion``, a list of [label, predicted, pixels]."""
        pairs = self.confusion.nonzero()
        counts = self.confusion[pairs[:, 0], pairs[:, 1]]
        return {"confusion": torch.cat([pairs, counts[:, None]], 1).tolist()}

    def add(self, state: Mapping[str, Any]) -> None:
        """Add the counts of another metric's `state`."""
        for label, predicted, pixels in state["confusion"]:
            self.confusion[label, predicted] += pixels

    def summary(self) -> dict[str, float]:
        """The scores that are listed for each image."""
        return {name: value for name, value in self.scores().items() if isinstance(value, float)}

    def _check_known(self, labels: Tensor) -> None:
        unknown = labels[(labels < 0) | (labels >= self.classes)]
        if unknown.numel():
            raise InputError(
                f"labels hold the value {int(unknown[0])}; expected 0..{self.classes - 1} or {self.ignore_index} for "
                "ignored pixels: check the number of classes and the label mapping"
            )
