"""Confidence in predictions that are used as labels."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaprompts.tasks.normals import NormalsPrediction
from metaprompts.tasks.predictions import DepthPrediction, PosePrediction, SegmentationPrediction
from metaprompts.tasks.preprocess import enlarged_bands

Confidence = NDArray[np.float32]


def needs_mirrored(prediction: Any) -> bool:
    """Whether the confidence compares with the prediction of the mirrored image."""
    return isinstance(prediction, DepthPrediction | NormalsPrediction)


def class_margin(raw: Tensor, size: tuple[int, int]) -> Confidence:
    """The probability of the most probable class of each pixel minus that of the second.

    Args:
        raw: (classes, h, w) logits
        size: (height, width) of the image
    """
    first, second = torch.zeros(size), torch.zeros(size)
    for probability in raw.float().softmax(dim=0):
        for rows, band in enlarged_bands(probability, size):
            values = band.cpu()
            second[rows] = torch.maximum(second[rows], torch.minimum(first[rows], values))
            first[rows] = torch.maximum(first[rows], values)
    margin: Confidence = first.sub_(second).numpy()
    return margin


def pixel_confidence(prediction: Any, mirrored: Any = None, margin: Confidence | None = None) -> Confidence | None:
    """The confidence of each pixel, from 0 to 1; None if the prediction has no pixels.

    Segmentation: `class_margin`. Depth: the smaller divided by the larger of the depths predicted for the
    image and for its mirror image. Normals: the cosine of the angle between the two predicted normals, or 0 if
    negative.

    Args:
        prediction: a prediction of an image
        mirrored: the prediction of the mirrored image, where `needs_mirrored`
        margin: segmentation: the `class_margin` of the raw output

    Returns:
        (H, W)
    """
    if isinstance(prediction, DepthPrediction):
        one, other = prediction.depth_m, mirrored.depth_m[:, ::-1]
        larger = np.maximum(one, other)
        agreed = np.divide(np.minimum(one, other), larger, out=np.zeros_like(one), where=larger > 0).clip(0, 1)
        return agreed if prediction.valid is None else np.where(prediction.valid, agreed, np.float32(0))
    if isinstance(prediction, NormalsPrediction):
        # A mirrored normal points to the other side.
        other = mirrored.normals[:, ::-1] * np.array([-1, 1, 1], np.float32)
        cosines: Confidence = (prediction.normals * other).sum(axis=2)
        return cosines.clip(0, 1)
    return margin if isinstance(prediction, SegmentationPrediction) else None


def image_confidence(prediction: Any, pixels: Confidence | None) -> float | None:
    """The confidence of an image, from 0 to 1: the mean over its pixels, or over the joints of its people.

    Args:
        prediction: prediction of the image
        pixels: `pixel_confidence` of the prediction

    Returns:
        None for an image without people
    """
    if pixels is not None:
        return float(pixels.mean(dtype=np.float64))
    if isinstance(prediction, PosePrediction) and prediction.people:
        scores = np.concatenate([person.scores for person in prediction.people])
        return float(np.nan_to_num(scores).clip(0, 1).mean(dtype=np.float64))
    return None
