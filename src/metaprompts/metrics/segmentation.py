"""Mean intersection over union of semantic segmentation, from one confusion matrix over the whole split."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaprompts.errors import InputError
from metaprompts.metrics.base import Metric
from metaprompts.utils.files import write_image, write_json, write_text
from metaprompts.utils.lazy import lazy_module
from metaprompts.visualize.matrices import draw_confusion

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")

CONFUSION = ("confusion.json", "confusion.csv", "confusion.png")
"""The files of `write_confusion`."""


class SegmentationScores(Metric):
    """mIoU, aAcc and mAcc, defined as in mmsegmentation's ``IoUMetric``.

    The confusion matrix is summed over images and processes before anything is divided, so the scores do not depend on
    how the split was divided into batches.

    Args:
        classes: number of classes; labels are 0..classes - 1
        ignore_index: label of ignored pixels; None to count every pixel

    Attributes:
        confusion: (classes, classes + 1) pixels, labels in rows, predictions in columns; the last column is for
            predictions that are not a class, which are misses for the labeled class, but false positives of none
    """

    listed = ("mIoU", "aAcc", "mAcc")

    def __init__(self, classes: int, ignore_index: int | None = 255) -> None:
        if classes < 1:
            raise InputError(f"the number of classes to score is {classes}; expected at least 1")
        self.classes = classes
        self.ignore_index = ignore_index
        self.reset()

    def reset(self) -> None:
        self.confusion = torch.zeros(self.classes, self.classes + 1, dtype=torch.int64)

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
        labels, predicted = (classes.to("cpu", torch.int64).flatten() for classes in (labels, predicted))
        if self.ignore_index is not None:
            counted = labels != self.ignore_index
            labels, predicted = labels[counted], predicted[counted]
        self._check_known(labels)
        predicted = torch.where((predicted < 0) | (predicted >= self.classes), self.classes, predicted)
        pairs = labels * (self.classes + 1) + predicted
        self.confusion += torch.bincount(pairs, minlength=self.confusion.numel()).view_as(self.confusion)

    def scores(self) -> dict[str, float | list[float]]:
        """The scores over everything counted.

        Returns:
            ``mIoU``: mean over the classes that occur in labels or predictions; ``aAcc``: fraction of counted pixels
            that are correct; ``mAcc``: mean over the classes that occur in the labels; ``iou_per_class``: one number
            per class. All in 0..1, and nan if the denominator is zero.
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
        """``confusion``, a list of [label, predicted, pixels]."""
        pairs = self.confusion.nonzero()
        counts = self.confusion[pairs[:, 0], pairs[:, 1]]
        return {"confusion": torch.cat([pairs, counts[:, None]], 1).tolist()}

    def add(self, state: Mapping[str, Any]) -> None:
        for label, predicted, pixels in state["confusion"]:
            self.confusion[label, predicted] += pixels

    def _check_known(self, labels: Tensor) -> None:
        unknown = labels[(labels < 0) | (labels >= self.classes)]
        if unknown.numel():
            raise InputError(
                f"labels hold the value {int(unknown[0])}; expected 0..{self.classes - 1} or {self.ignore_index} for "
                "ignored pixels: check the number of classes and the label mapping"
            )


def write_confusion(confusion: Tensor, classes: Sequence[str], out: Path) -> None:
    """Write the matrix as JSON, as CSV and as an image.

    Args:
        confusion: (C, C + 1) pixels, ground truth in rows, predictions in columns; the last column is "no class"
        classes: names of the C classes
        out: folder

    Raises:
        InputError: a file cannot be written
    """
    pixels = confusion[:, : len(classes)]
    counts: list[list[int]] = pixels.tolist()
    as_json, as_csv, as_image = (out / name for name in CONFUSION)
    write_json(as_json, {"rows": "truth", "columns": "prediction", "classes": list(classes), "pixels": counts})
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["truth \\ prediction", *classes])
    writer.writerows([name, *row] for name, row in zip(classes, counts, strict=True))
    write_text(as_csv, text.getvalue())
    write_image(as_image, draw_confusion(pixels.numpy(), classes))
