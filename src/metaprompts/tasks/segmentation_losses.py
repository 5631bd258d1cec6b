"""The losses of segmentation, and class weights balanced by class frequencies in the training masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metaprompts.data.datasets.label_histogram import LabelHistogram
from metaprompts.data.sample import IGNORED_LABEL
from metaprompts.utils.lazy import lazy_module

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor
else:
    torch = lazy_module("torch")
    F = lazy_module("torch.nn.functional")

BALANCED = "balanced"
_DIGITS = 6
_NAMED_AT_MOST = 24


def balanced_weights(counted: LabelHistogram) -> list[float]:
    """Weights inversely proportional to the number of pixels of each class, 1 for the average pixel.

    pixels / (classes that occur * pixels of the class), as scikit-learn's "balanced"; 1 for classes that never occur.
    """
    pixels = [counted.pixels[index] for index in range(len(counted.classes))]
    present = sum(count > 0 for count in pixels)
    return [round(sum(pixels) / (present * count), _DIGITS) if count else 1.0 for count in pixels]


def describe_weights(counted: LabelHistogram, weights: list[float]) -> list[str]:
    """One line with the weights; if there are many classes, only the smallest and largest weights."""
    pairs = sorted(zip(weights, counted.classes, strict=True))
    chosen = pairs if len(pairs) <= _NAMED_AT_MOST else [*pairs[:3], *pairs[-3:]]
    named = ", ".join(f"{name} {weight:.3g}" for weight, name in chosen)
    shown = "" if len(chosen) == len(pairs) else f" (the three smallest and largest of {len(pairs)})"
    return [f"task.class_weights, balanced over {counted.read} training masks{shown}: {named}"]


def mean_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross entropy, averaged over ALL pixels: ignored pixels have zero loss but count (mmsegmentation's default).

    Args:
        logits: (B, classes, H, W)
        labels: (B, H, W), 255 = ignore
        weights: (classes,) weight of the loss of each class's pixels; None for equal weights

    Returns:
        scalar
    """
    return F.cross_entropy(logits, labels, weights, ignore_index=IGNORED_LABEL, reduction="none").mean()


def lovasz_softmax(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Mean of the Lovasz extensions of the Jaccard loss of each class, over the classes present in the batch.

    Source: Berman et al. 2018, algorithm 1.

    Args:
        probabilities: (B, classes, H, W), summing to 1 over the classes
        labels: (B, H, W), 255 = ignore

    Returns:
        scalar in [0, 1]; 0 (with zero gradient) when every pixel is ignored
    """
    valid = labels != IGNORED_LABEL
    scores = probabilities.movedim(1, -1)[valid]
    targets = labels[valid]
    losses = [
        _class_loss((targets == index).to(scores.dtype), scores[:, index]) for index in torch.unique(targets).tolist()
    ]
    if not losses:
        return probabilities.sum() * 0
    return torch.stack(losses).mean()


def _class_loss(is_class: Tensor, scores: Tensor) -> Tensor:
    errors, order = torch.sort((is_class - scores).abs(), descending=True)
    return torch.dot(errors, _jaccard_steps(is_class[order]))


def _jaccard_steps(is_class: Tensor) -> Tensor:
    """The increase of the Jaccard loss with each further error, largest error first."""
    total = is_class.sum()
    intersection = total - is_class.cumsum(0)
    union = total + (1 - is_class).cumsum(0)
    jaccard = 1 - intersection / union
    return torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
