"""Semantic segmentation: UPerNet, cross entropy + Lovasz + auxiliary loss, mIoU."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from metaprompts.data.class_names import plain_names
from metaprompts.errors import InputError
from metaprompts.modules.heads.upernet import FCNHead, UPerNet
from metaprompts.tasks.base import Batch, ImageArray, ModelInput, Task, check_names_are_lines
from metaprompts.tasks.lovasz_loss import lovasz_softmax
from metaprompts.tasks.predictions import Prediction, SegmentationPrediction
from metaprompts.tasks.preprocess import enlarged_bands, whole_view
from metaprompts.utils.schema import Range, check_ranges

if TYPE_CHECKING:
    from metaprompts.metrics.segmentation import SegmentationScores

IGNORED = 255
# Rows whose probabilities are in memory at once.
_BAND = 64


@dataclass(frozen=True, kw_only=True)
class Segmentation(Task):
    """Settings of semantic segmentation.

    Attributes:
        classes: their names, in the order of their indices
        width: channels inside UPerNet and the auxiliary head
        dropout: share of channels dropped before the classifiers while training
        auxiliary_weight: weight of the auxiliary head's cross entropy
        lovasz_weight: weight of the Lovasz-softmax loss
        class_weights: class weights of the two cross entropies: a list of numbers in the order of the classes, or
            "balanced", in inverse proportion to the pixels that each class has in the training masks; none for 1 each
    """

    name: ClassVar[str] = "segmentation"
    metrics: ClassVar[tuple[str, ...]] = ("mIoU", "aAcc", "mAcc")

    classes: tuple[str, ...]
    width: Annotated[int, Range(1, 16384)] = 512
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.0
    auxiliary_weight: Annotated[float, Range(0, 1e6)] = 0.4
    lovasz_weight: Annotated[float, Range(0, 1e6)] = 1.0
    class_weights: Literal["balanced"] | tuple[Annotated[float, Range(0, 1e9)], ...] | None = None

    def __post_init__(self) -> None:
        if not self.classes:
            raise InputError("task.classes is empty; give the name of each class, in the order of their indices")
        check_names_are_lines("task.classes", self.classes)
        _check_names(self.classes)
        check_ranges(self, "task")
        weights = self.class_weights
        if isinstance(weights, tuple) and (len(weights) != len(self.classes) or not any(weights)):
            raise InputError(
                f"task.class_weights has {len(weights)} numbers, the largest {max(weights, default=0):g}; expected one "
                f"for each of {len(self.classes)} classes, some above 0, balanced, or none"
            )

    @property
    def outputs(self) -> int:
        return len(self.classes)

    def head(self, channels: int, levels: int) -> nn.Module:
        return UPerNet([channels] * levels, width=self.width, classes=len(self.classes), dropout=self.dropout)

    def auxiliary_head(self, channels: int) -> nn.Module:
        return FCNHead(channels, width=self.width, classes=len(self.classes), level=2, dropout=self.dropout)

    def losses(self, raw: Tensor, auxiliary: Tensor | None, batch: Batch) -> dict[str, Tensor]:
        """Cross entropy over all pixels, Lovasz-softmax, and the auxiliary head's cross entropy (released code).

        Args:
            raw: logits (B, classes, H, W)
            auxiliary: logits of the auxiliary head, alike
            batch: "labels" (B, H, W), 255 = ignore
        """
        assert auxiliary is not None, "training needs the auxiliary head's logits"
        labels, weights = batch["labels"], self._loss_weights(raw)
        return {
            "cross_entropy": mean_cross_entropy(raw, labels, weights),
            "lovasz": self.lovasz_weight * lovasz_softmax(raw.softmax(dim=1), labels, ignored=IGNORED),
            "auxiliary": self.auxiliary_weight * mean_cross_entropy(auxiliary, labels, weights),
        }

    def _loss_weights(self, like: Tensor) -> Tensor | None:
        if self.class_weights == "balanced":
            raise InputError(
                "task.class_weights is balanced, but no masks were counted: see metaprompts.training.class_weights"
            )
        return None if self.class_weights is None else like.new_tensor(self.class_weights)

    def encode(self, batch: Batch) -> Tensor:
        """Logits (B, classes, H, W) that are confident in the labels; ignored pixels are uniform."""
        labels = batch["labels"]
        known = labels.clamp_max(len(self.classes) - 1)
        one_hot = F.one_hot(known, len(self.classes)).movedim(-1, 1).float()
        return one_hot * (labels != IGNORED).unsqueeze(1)

    def decode(self, raw: Tensor) -> Tensor:
        """Logits (B, classes, H, W) to labels (B, H, W)."""
        return raw.argmax(dim=1)

    def metric(self, **metric_kwargs: Any) -> "SegmentationScores":
        # Torchmetrics takes seconds to import; recipes are read without scoring.
        from metaprompts.metrics.segmentation import SegmentationScores

        del metric_kwargs
        return SegmentationScores(len(self.classes), ignore_index=IGNORED)

    def score(self, metric: "SegmentationScores", raw: Tensor, batch: Batch) -> None:
        labels = batch["labels"]
        if raw.shape[-2:] != labels.shape[-2:]:
            raw = F.interpolate(raw, size=labels.shape[-2:], mode="bilinear", align_corners=False)
        metric.update(self.decode(raw), labels)

    def model_inputs(
        self, image: ImageArray, working_size: tuple[int, int] | None, boxes: Sequence[Any] | None
    ) -> Iterator[ModelInput]:
        del boxes
        yield whole_view(image, working_size)

    def assemble(self, image: ImageArray, outputs: Iterable[tuple[ModelInput, Tensor]]) -> Prediction:
        ((_, raw),) = outputs
        size, probabilities = (image.shape[0], image.shape[1]), raw.float().softmax(dim=0)
        labels, confidence = np.zeros(size, self._label_type), np.full(size, -1, np.float32)
        # Resizing class by class keeps a large image's memory at a few maps, not one for each class.
        for index, probability in enumerate(probabilities):
            for rows, band in enlarged_bands(probability, size):
                values = band.cpu().numpy()
                better = values > confidence[rows]
                np.copyto(labels[rows], index, where=better)
                np.copyto(confidence[rows], values, where=better)
        return self._prediction(image, labels, confidence)

    def assemble_rows(self, image: ImageArray, rows: Iterable[tuple[int, Tensor]]) -> Prediction:
        # The dtype of the result, as the image is large.
        labels, confidence = np.zeros(image.shape[:2], self._label_type), np.zeros(image.shape[:2], np.float32)
        for first, logits in rows:
            for start in range(0, logits.shape[1], _BAND):
                band = logits[:, start : start + _BAND]
                largest, index = band.max(dim=0)
                here = slice(first + start, first + start + band.shape[1])
                labels[here] = index.cpu().numpy()
                confidence[here] = (largest - band.logsumexp(dim=0)).exp().cpu().numpy()
        return self._prediction(image, labels, confidence)

    @property
    def _label_type(self) -> Any:
        return np.uint8 if len(self.classes) <= 256 else np.uint16

    def _prediction(self, image: ImageArray, labels: Any, confidence: Any) -> Prediction:
        return SegmentationPrediction(
            labels=labels.astype(self._label_type, copy=False),
            classes=self.classes,
            image=image,
            confidence=confidence,
        )


def mean_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross entropy, averaged over ALL pixels: ignored ones have zero loss but count (mmsegmentation's default).

    Args:
        logits: (B, classes, H, W)
        labels: (B, H, W), 255 = ignore
        weights: (classes,) weights of the pixels' losses; None for 1

    Returns:
        scalar
    """
    return F.cross_entropy(logits, labels, weights, ignore_index=IGNORED, reduction="none").mean()


def _check_names(classes: Sequence[str]) -> None:
    """Check class names, by which classes of data and of other models are matched."""
    places: dict[str, int] = {}
    for place, name in enumerate(plain_names(classes)):
        first = places.setdefault(name, place)
        if first != place:
            raise InputError(
                f"task.classes {first} and {place} are {classes[first]!r} and {classes[place]!r}, which mean the same: "
                "give every class a name of its own"
            )
