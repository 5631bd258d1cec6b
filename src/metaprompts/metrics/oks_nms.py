"""Object keypoint similarity between predicted people, and removal of duplicate people."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

KEYPOINT_SCORES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")

COCO_SIGMAS = (
    *(0.026, 0.025, 0.025, 0.035, 0.035),  # nose, eyes, ears
    *(0.079, 0.079, 0.072, 0.072, 0.062, 0.062),  # shoulders, elbows, wrists
    *(0.107, 0.107, 0.087, 0.087, 0.089, 0.089),  # hips, knees, ankles
)

SCORED_JOINT = 0.2
"""Only joints with higher scores count in a person's score, as in mmpose and SimpleBaseline."""


def mean_above(scores: Floats) -> NDArray[np.float64]:
    """(P,), the mean of the joint scores (P,J) that exceed 0.2; 0 if none does.

    A person's final score is the score of the box times this mean.
    """
    # Scores are float32, where 0.2 is slightly more than 0.2 in float64.
    counted = scores > float(np.float32(SCORED_JOINT))
    means: NDArray[np.float64] = (scores * counted).sum(1) / counted.sum(1).clip(1)
    return means


def keypoint_similarity(
    keypoints: Floats, others: Floats, area: float, other_areas: Floats, sigmas: Sequence[float]
) -> NDArray[np.float64]:
    """Object keypoint similarity (OKS) of one person to others: mean over joints of exp(-d^2 / (2 s k^2)).

    s is the mean area of the two people, k twice the joint's sigma. All joints count, regardless of their score, as
    in mmpose's ``oks_iou``.

    Args:
        keypoints: (J,2) pixels
        others: (P,J,2) pixels
        area: area of the one person in square pixels
        other_areas: (P,) square pixels
        sigmas: J numbers, the spread of annotations for each joint

    Returns:
        (P,) in 0..1, 1 for the same pose
    """
    variances = (2 * np.asarray(sigmas, dtype=np.float64)) ** 2
    distances = np.square(np.asarray(others, np.float64) - np.asarray(keypoints, np.float64)).sum(-1)
    scales = (area + np.asarray(other_areas, np.float64)) / 2 + np.spacing(1)
    similarity: NDArray[np.float64] = np.exp(-distances / variances / scales[:, None] / 2).mean(-1)
    return similarity


def keep_best(
    keypoints: Floats, scores: Floats, areas: Floats, sigmas: Sequence[float], *, threshold: float
) -> list[int]:
    """Keep the best-scored person of every group of near-equal poses (greedy non-maximum suppression by OKS).

    Args:
        keypoints: (P,J,2) pixels, the people in one image
        scores: (P,), higher is better; of people with equal scores, the first is kept
        areas: (P,) square pixels
        sigmas: J numbers
        threshold: a person whose OKS with a better-scored person is above this is removed; mmpose uses 0.9

    Returns:
        indices of the people kept, best first
    """
    waiting = np.argsort(-np.asarray(scores), kind="stable")
    kept = []
    while waiting.size:
        best, waiting = int(waiting[0]), waiting[1:]
        kept.append(best)
        similarity = keypoint_similarity(
            keypoints[best], keypoints[waiting], float(areas[best]), areas[waiting], sigmas
        )
        waiting = waiting[similarity <= threshold]
    return kept
