"""Object keypoint similarity between predicted people, and removal of duplicate people."""

from collections.abc import Callable, Sequence

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
    """Keep the best-scored person of every group of near-equal poses (`greedy_nms` by OKS).

    Args:
        keypoints: (P,J,2) pixels, the people in one image
        scores: (P,)
        areas: (P,) square pixels
        sigmas: J numbers
        threshold: a person whose OKS with a better-scored person is above this is removed; mmpose uses 0.9
    """

    def similarity(best: int, others: NDArray[np.intp]) -> NDArray[np.float64]:
        return keypoint_similarity(keypoints[best], keypoints[others], float(areas[best]), areas[others], sigmas)

    return greedy_nms(scores, similarity, threshold)


def greedy_nms(
    scores: Floats, overlap: Callable[[int, NDArray[np.intp]], NDArray[np.float64]], threshold: float
) -> list[int]:
    """Keep the best of every group of overlapping items (greedy non-maximum suppression).

    Args:
        scores: (P,), higher is better; of items with equal scores, the first is kept
        overlap: an item's index, and the indices of others -> the overlap with each of them
        threshold: items that overlap a better one by more than this are dropped

    Returns:
        indices of the items kept, best first
    """
    waiting, kept = np.argsort(-np.asarray(scores), kind="stable"), list[int]()
    while waiting.size:
        best, waiting = int(waiting[0]), waiting[1:]
        kept.append(best)
        waiting = waiting[overlap(best, waiting) <= threshold]
    return kept
