"""Confidence in predictions that are used as labels."""

from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaprompts.tasks.normals import NormalsPrediction
from metaprompts.tasks.predictions import DepthPrediction, PosePrediction, SegmentationPrediction

Confidence = NDArray[np.float32]


def needs_mirrored(prediction: Any) -> bool:
    """Whether the confidence compares with the prediction of the mirrored image."""
    return isinstance(prediction, DepthPrediction | NormalsPrediction)


@singledispatch
def pixel_confidence(prediction: Any, mirrored: Any = None) -> Confidence | None:
    """The confidence of each pixel, from 0 to 1; None if the prediction has no pixels.

    Segmentation: the probability of the class. Depth: the smaller divided by the larger of the depths predicted for the
    image and for its mirror image. Normals: the cosine of the angle between these two, at least 0.

    Args:
        prediction: a prediction of an image
        mirrored: the prediction of the mirrored image, where `needs_mirrored`

    Returns:
        (H, W)
    """
    del prediction, mirrored
    return None


@pixel_confidence.register
def _(prediction: SegmentationPrediction, mirrored: Any = None) -> Confidence | None:
    return prediction.confidence


@pixel_confidence.register
def _(prediction: DepthPrediction, mirrored: Any = None) -> Confidence | None:
    one, other = prediction.depth_m, mirrored.depth_m[:, ::-1]
    larger = np.maximum(one, other)
    agreed = np.divide(np.minimum(one, other), larger, out=np.zeros_like(one), where=larger > 0)
    found: Confidence = agreed.clip(0, 1)
    return found if prediction.valid is None else np.where(prediction.valid, found, np.float32(0))


@pixel_confidence.register
def _(prediction: NormalsPrediction, mirrored: Any = None) -> Confidence | None:
    # A mirrored normal points to the other side.
    other = mirrored.normals[:, ::-1] * np.array([-1, 1, 1], np.float32)
    cosines: Confidence = (prediction.normals * other).sum(axis=2)
    return cosines.clip(0, 1)


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
