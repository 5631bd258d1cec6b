"""Semantic segmentation: UPerNet, cross entropy + Lovasz + auxiliary loss, mIoU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metaprompts.data.class_names import check_distinct, plain_names
from metaprompts.data.config.base import Openers
from metaprompts.data.config.segmentation import SegmentationAugment, SegmentationData
from metaprompts.data.datasets.label_histogram import LabelHistogram, check_any_label, count_labels
from metaprompts.data.sample import IGNORED_LABEL, Sample, SampleDataset, Split
from metaprompts.errors import InputError
from metaprompts.metrics.prompt_statistics import ClassResponses
from metaprompts.metrics.segmentation import SegmentationScores, write_confusion
from metaprompts.tasks.base import About, Task
from metaprompts.tasks.drawing import shrunk
from metaprompts.tasks.predictions import Prediction, SegmentationPrediction
from metaprompts.tasks.preprocess import ModelInput, at_size, enlarged_bands
from metaprompts.tasks.protocol import Batch, EvaluationProtocol, original_size, scaled_name, with_context
from metaprompts.tasks.segmentation_losses import (
    BALANCED,
    balanced_weights,
    describe_weights,
    lovasz_softmax,
    mean_cross_entropy,
)
from metaprompts.tasks.standalone.dense import Array, between, resized
from metaprompts.utils.lazy import lazy_module
from metaprompts.utils.schema import Range, check_ranges
from metaprompts.utils.wording import check_names_are_lines
from metaprompts.visualize.legends import sentences
from metaprompts.visualize.segmentation import class_colors, class_legend, overlay_labels
from metaprompts.visualize.text import ImageArray, stack_down

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    from metaprompts.tasks.protocol import Predictor
else:
    torch = lazy_module("torch")
    F = lazy_module("torch.nn.functional")
    nn = lazy_module("torch.nn")

logger = logging.getLogger(__name__)

# For Cityscapes' large masks this takes about 3 seconds.
_MASKS_AT_MOST = 100
# The legend entry of ignored pixels, whose label may be a class of predictions.
_UNTINTED = -1
_NOTE_PX = 14
# Number of rows whose probabilities are in memory at once.
_BAND = 64


@dataclass(frozen=True, kw_only=True)
class SegmentationProtocol(EvaluationProtocol):
    """Test protocol of segmentation. Windows average logits; scales and mirror images average softmax outputs.

    Attributes:
        window: side of square windows, in pixels (ADE20K: 512; Cityscapes: 1024); none for the whole image at once
        stride: step between windows, in pixels (ADE20K: 341; Cityscapes: 512); none to use half a window
        scales: scale factors of images (published: 0.5,0.75,1,1.25,1.5,1.75,2)
        window_batch: windows per forward pass
    """

    window: Annotated[int, Range(1, 65536)] | None = None
    stride: Annotated[int, Range(1, 65536)] | None = None
    # Larger factors are typos; published ones are 0.5 to 2.
    scales: tuple[Annotated[float, Range(0, 16, above=True)], ...] = (1.0,)
    window_batch: Annotated[int, Range(1, 65536)] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride is not None and self.stride > (self.window or 0):
            raise InputError(
                f"test.stride is {self.stride} and test.window {self.window or 'none'}: expected a stride of at most "
                "the window's side, so that no gaps are left"
            )
        if not self.scales:
            raise InputError("test.scales is empty; expected numbers such as 0.5,1,2")
        if len(set(self.scales)) != len(self.scales):
            raise InputError(f"test.scales is {list(self.scales)}; expected each scale once")

    def predict(self, model: Predictor, batch: Batch) -> Tensor:
        """Logits (B,C,H,W) if an image is predicted once, else probabilities (B,C,H,W) at the labels' size."""
        predict = with_context(model, batch)
        if self.window is None and not self.flip and self.scales == (1.0,):
            return predict(batch["image"])
        from metaprompts.tasks.sliding_window import mean_probabilities

        return mean_probabilities(
            predict,
            [batch[scaled_name(scale)] for scale in self.scales],
            original_size(batch),
            windows=None if self.window is None else (self.window, self.stride or max(self.window // 2, 1)),
            flip=self.flip,
            batch=self.window_batch,
        )

    def quick(self) -> Self:
        """The protocol with one scale and no mirror image; windows keep the size that the model was trained at."""
        return replace(self, flip=False, scales=(1.0,))

    def ratios(self) -> tuple[float, ...]:
        """The scales."""
        return self.scales


def save_result(outputs: list[Array], image: NDArray[np.uint8], boxes: list[list[float]], facts: dict[str, Any]) -> str:
    """Write labels.png, the index of each pixel's likeliest class, at the image's size."""
    logits, size = outputs[0], image.shape[:2]
    likely = np.exp(logits - logits.max(axis=0))
    likely /= likely.sum(axis=0)
    # One class at a time: all of them at the image's size may not fit in memory.
    best, found = resized(likely[:1], size, between)[0], np.zeros(size, np.uint16)
    for index in range(1, len(likely)):
        values = resized(likely[index : index + 1], size, between)[0]
        found[values > best] = index
        best = np.maximum(best, values)
    Image.fromarray(found.astype(np.uint8) if len(likely) <= 256 else found).save("labels.png")
    return "labels.png"


@dataclass(frozen=True, kw_only=True)
class Segmentation(Task):
    """Settings of semantic segmentation.

    Attributes:
        classes: names of the classes, in the order of their indices
        width: channels inside UPerNet and the auxiliary head
        dropout: dropout rate of channels before the classifiers
        auxiliary_weight: weight of the auxiliary head's cross entropy
        lovasz_weight: weight of the Lovasz-softmax loss
        class_weights: class weights of the two cross entropies: a list of numbers in the order of the classes, or
            "balanced", in inverse proportion to the class's pixels in the training masks; none for equal weights
    """

    name: ClassVar[str] = "segmentation"
    data: ClassVar[type[Any]] = SegmentationData
    augment: ClassVar[type[Any]] = SegmentationAugment
    protocol: ClassVar[type[EvaluationProtocol]] = SegmentationProtocol
    metrics: ClassVar[tuple[str, ...]] = ("mIoU", "aAcc", "mAcc")
    best_by: ClassVar[Mapping[str, Literal["higher", "lower"]]] = dict.fromkeys(("mIoU", "mAcc", "aAcc"), "higher")
    nothing_scored: ClassVar[str] = "no pixel in the validation split is labeled"
    # UPerNet pools to one pixel, and the variance of a single value is undefined.
    smallest_pass: ClassVar[int] = 2
    published: ClassVar[str | None] = "ade20k"
    output_names: ClassVar[str | None] = "classes"
    output_layers: ClassVar[tuple[str, ...]] = ("head.classify.", "auxiliary_head.classify.")
    example: ClassVar[Callable[..., str]] = staticmethod(save_result)
    hub_task: ClassVar[str | None] = "image-segmentation"
    about: ClassVar[About] = About(
        title="Semantic segmentation: the class of each pixel",
        text="One of 17 classes per pixel; the colors are in the legend below.",
        scores={
            "mIoU": "intersection over union of predicted and true pixels, averaged over classes",
            "aAcc": "share of pixels with the correct class",
        },
        constant="the most frequent class at each pixel",
    )

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
        check_distinct(self.classes)
        check_ranges(self, "task")
        weights = self.class_weights
        if isinstance(weights, tuple) and (len(weights) != len(self.classes) or not any(weights)):
            raise InputError(
                f"task.class_weights has {len(weights)} numbers, the largest {max(weights, default=0):g}; expected "
                f"one for each of {len(self.classes)} classes, some above 0, or balanced, or none"
            )

    @property
    def outputs(self) -> int:
        return len(self.classes)

    @property
    def distinct_targets(self) -> int:
        return len(self.classes)

    def comparable_names(self, names: Sequence[str]) -> Sequence[Hashable]:
        return plain_names(names)

    def check_trainable(self) -> None:
        if len(self.classes) == 1:
            raise InputError(
                f"task.classes has only {self.classes[0]!r}: with one class every pixel is correct, and nothing is "
                "learned; add a class for the rest, such as --task.classes background,"
                f"{self.classes[0]}, and map the mask values, such as --data.label_map 0=0,255=1"
            )

    def fitted_to(
        self, samples: SampleDataset, gather: Callable[[Any], list[Any]] = lambda value: [value]
    ) -> tuple[Self, list[str]]:
        """Count all masks, if the class weights are "balanced"."""
        if self.class_weights != BALANCED:
            return self, []
        counted = count_labels(samples, self.classes)
        weights = gather(balanced_weights(counted))[0]
        return replace(self, class_weights=tuple(weights)), describe_weights(counted, weights)

    def unfitted(self) -> Self:
        """Class weights take no memory, and balanced weights are unknown before masks are counted."""
        return replace(self, class_weights=None)

    def parts(self, data: SegmentationData, split: Split) -> Openers:
        return data.parts(split, self.classes)

    def check_samples(self, samples: SampleDataset, name: str, *, warns: bool = True) -> LabelHistogram | None:
        """Check that some pixel has a class, and count classes in at most 100 masks, always the same ones."""
        check_any_label(samples, name)
        if not warns:
            return None
        counted = count_labels(samples, self.classes, at_most=_MASKS_AT_MOST)
        for line in counted.warnings():
            logger.warning("%s: %s", name, line)
        return counted

    def count_labels(self, samples: SampleDataset, **options: Any) -> LabelHistogram:
        return count_labels(samples, self.classes, **options)

    def empty_targets(self, images: int, height: int, width: int) -> dict[str, Tensor]:
        return {"labels": torch.empty(images, height, width, dtype=torch.long)}

    def head(self, channels: int, levels: int) -> nn.Module:
        from metaprompts.modules.heads.upernet import UPerNet

        return UPerNet([channels] * levels, width=self.width, classes=len(self.classes), dropout=self.dropout)

    def auxiliary_head(self, channels: int) -> nn.Module:
        from metaprompts.modules.heads.upernet import FCNHead

        return FCNHead(channels, width=self.width, classes=len(self.classes), level=2, dropout=self.dropout)

    def losses(self, raw: Tensor, auxiliary: Tensor | None, batch: Batch) -> dict[str, Tensor]:
        """Cross entropy over all pixels, Lovasz-softmax, and the auxiliary head's cross entropy (released code).

        Args:
            raw: logits (B, classes, H, W)
            auxiliary: logits of the auxiliary head, of the same shape
            batch: "labels" (B, H, W), 255 = ignore
        """
        assert auxiliary is not None, "training needs the auxiliary head's logits"
        labels, weights = batch["labels"], self._loss_weights(raw)
        return {
            "cross_entropy": mean_cross_entropy(raw, labels, weights),
            "lovasz": self.lovasz_weight * lovasz_softmax(raw.softmax(dim=1), labels),
            "auxiliary": self.auxiliary_weight * mean_cross_entropy(auxiliary, labels, weights),
        }

    def _loss_weights(self, like: Tensor) -> Tensor | None:
        if self.class_weights == BALANCED:
            raise InputError("task.class_weights is balanced, but no masks were counted: see Segmentation.fitted_to")
        return None if self.class_weights is None else like.new_tensor(self.class_weights)

    def encode(self, batch: Batch) -> Tensor:
        """Logits (B, classes, H, W) that are confident in the labels; ignored pixels are uniform."""
        labels = batch["labels"]
        known = labels.clamp_max(len(self.classes) - 1)
        one_hot = F.one_hot(known, len(self.classes)).movedim(-1, 1).float()
        return one_hot * (labels != IGNORED_LABEL).unsqueeze(1)

    def disagreement(self, earlier: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
        """The total variation distance of the class probabilities: per pixel, and averaged per image."""
        per_pixel = (earlier.softmax(dim=1) - later.softmax(dim=1)).abs().sum(dim=1) / 2
        return per_pixel, per_pixel.mean(dim=(1, 2))

    def decode(self, raw: Tensor) -> Tensor:
        """Logits (B, classes, H, W) to labels (B, H, W)."""
        return raw.argmax(dim=1)

    def metric(self, **metric_kwargs: Any) -> SegmentationScores:
        return SegmentationScores(len(self.classes), ignore_index=IGNORED_LABEL)

    def score(self, metric: SegmentationScores, raw: Tensor, batch: Batch) -> None:
        labels = batch["labels"]
        metric.update(self.decode(at_size(raw, labels.shape[-2:])), labels)

    def write_details(self, metric: SegmentationScores, folder: Path) -> None:
        """Write the confusion matrix."""
        write_confusion(metric.confusion, self.classes, folder)

    def constant_output(self, batches: Iterable[Batch]) -> Tensor:
        """(1, classes, H, W): the number of occurrences of each class at each position, used as logits."""
        classes, counts = len(self.classes), []
        for batch in batches:
            # Ignored pixels get their own channel, which is removed.
            labels = batch["labels"].long().clamp(max=classes)
            counts.append(F.one_hot(labels, classes + 1)[..., :classes].sum(dim=0))
        return torch.stack(counts).sum(dim=0).permute(2, 0, 1)[None].float()

    def prompt_responses(self, prompts: int) -> ClassResponses:
        return ClassResponses(prompts, self.classes)

    def amount_of(self, place: int, sample: Sample) -> float:
        return float(np.sum(sample.labels == place))

    def draw_target(self, sample: Sample) -> ImageArray:
        assert sample.labels is not None
        return overlay_labels(sample.image, sample.labels, class_colors(self.classes))

    def draw_sample(self, sample: Sample) -> ImageArray:
        return self.draw_target(shrunk(sample))

    def legend_entries(self, shown: Any) -> set[int]:
        labels = {int(label) for label in np.unique(shown.labels)}
        ignored = {_UNTINTED} if isinstance(shown, Sample) and IGNORED_LABEL in labels else set()
        return labels - {IGNORED_LABEL} | ignored

    def legend(self, entries: Iterable[int], width: int) -> ImageArray | None:
        needed = set(entries)
        places = sorted(needed - {_UNTINTED})
        names = [self.classes[place] for place in places]
        strips = [class_legend(names, class_colors(self.classes)[places], width, numbers=places)] if places else []
        if _UNTINTED in needed:
            strips.append(sentences(["no color in the truth: ignored, not scored"], width, _NOTE_PX))
        return stack_down(*strips) if strips else None

    def export_output(self, size: tuple[int, int]) -> dict[str, Any]:
        return {
            "name": "logits",
            "shape": ["batch", len(self.classes), *size],
            "meaning": (
                "The class of a pixel is the index of its largest value on axis 1, resized after a softmax over that "
                "axis."
            ),
            "classes": list(self.classes),
        }

    def assemble(self, image: ImageArray, outputs: Iterable[tuple[ModelInput, Tensor]]) -> Prediction:
        ((_, raw),) = outputs
        size, probabilities = (image.shape[0], image.shape[1]), raw.float().softmax(dim=0)
        labels, confidence = np.zeros(size, self._label_type), np.full(size, -1, np.float32)
        # Resizing class by class needs memory for only a few maps of a large image, not for one map per class.
        for index, probability in enumerate(probabilities):
            for rows, band in enlarged_bands(probability, size):
                values = band.cpu().numpy()
                better = values > confidence[rows]
                np.copyto(labels[rows], index, where=better)
                np.copyto(confidence[rows], values, where=better)
        return SegmentationPrediction(labels=labels, classes=self.classes, image=image, confidence=confidence)

    def assemble_rows(self, image: ImageArray, rows: Iterable[tuple[int, Tensor]]) -> Prediction:
        # Allocated in the result's dtype, because the image is large.
        labels, confidence = np.zeros(image.shape[:2], self._label_type), np.zeros(image.shape[:2], np.float32)
        for first, logits in rows:
            for start in range(0, logits.shape[1], _BAND):
                band = logits[:, start : start + _BAND]
                largest, index = band.max(dim=0)
                here = slice(first + start, first + start + band.shape[1])
                labels[here] = index.cpu().numpy()
                confidence[here] = (largest - band.logsumexp(dim=0)).exp().cpu().numpy()
        return SegmentationPrediction(labels=labels, classes=self.classes, image=image, confidence=confidence)

    @property
    def _label_type(self) -> Any:
        return np.uint8 if len(self.classes) <= 256 else np.uint16
