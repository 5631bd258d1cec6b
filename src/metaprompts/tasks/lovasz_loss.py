"""Lovasz-softmax, a surrogate of the Jaccard index (Berman et al. 2018, algorithm 1)."""

import torch
from torch import Tensor


def lovasz_softmax(probabilities: Tensor, labels: Tensor, *, ignored: int) -> Tensor:
    """Mean of the Lovasz extensions of the Jaccard loss of each class, over the classes present in the batch.

    Args:
        probabilities: (B, classes, H, W), summing to 1 over the classes
        labels: (B, H, W)
        ignored: label of the ignored pixels

    Returns:
        scalar in [0, 1]; 0 (with zero gradient) when every pixel is ignored
    """
    valid = labels != ignored
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
