"""The interface of detectors, and the selection of boxes and people without duplicates."""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.io.images import as_image
from metaprompts.data.transforms.affine import box_center_scale
from metaprompts.errors import InputError
from metaprompts.metrics.oks_nms import greedy_nms, keep_best, mean_above
from metaprompts.tasks.pose import Pose
from metaprompts.tasks.predictions import PosePrediction
from metaprompts.visualize.text import ImageArray

Boxes = NDArray[np.float32]
"""(N,5): x, y, width, height in pixels, and score."""

BOX_NMS = 0.6
"""IoU above which only the better of two boxes is kept."""

OKS_NMS = 0.9
"""OKS above which two predicted people are the same, as in mmpose."""


class Detector(Protocol):
    """Finds people in an image."""

    @property
    def default_score(self) -> float:
        """The score below which boxes are usually wrong."""

    def __call__(self, image: ImageArray) -> Boxes:
        """Find the people in an image (H,W,3), uint8 RGB; returns unfiltered boxes in any order."""


@dataclass(frozen=True, kw_only=True)
class PersonDetector:
    """A detector whose boxes are filtered: inside the image, with a minimum score, without duplicates, best first.

    Pass it as ``boxes`` of `MetaPromptModel.predict`.

    Attributes:
        detector: finds the boxes
        min_score: boxes with lower scores are dropped; None for the detector's default
        nms: IoU threshold of non-maximum suppression
        max_people: keep at most this many boxes, those with the highest scores; None to keep all

    Raises:
        InputError: a threshold is outside 0 to 1, or ``max_people`` below 1
    """

    detector: Detector
    min_score: float | None = None
    nms: float = BOX_NMS
    max_people: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("min_score", self.min_score), ("nms", self.nms)):
            if value is not None and not 0 <= value <= 1:
                raise InputError(f"{name} is {value}; expected 0 to 1")
        if self.max_people is not None and self.max_people < 1:
            raise InputError(f"max_people is {self.max_people}; expected at least 1")

    def __call__(self, image: Any) -> Boxes:
        """Find the people in an image.

        Args:
            image: path, PIL image, or uint8 array (H,W,3)

        Returns:
            (N,5): x, y, width, height in pixels, and score; best first

        Raises:
            InputError: the image cannot be read
        """
        array = as_image(image)
        least = self.detector.default_score if self.min_score is None else self.min_score
        boxes = _inside(np.asarray(self.detector(array), np.float32).reshape(-1, 5), *array.shape[:2])
        boxes = boxes[boxes[:, 4] >= least]
        kept = greedy_nms(boxes[:, 4], lambda best, others: box_iou(boxes[best], boxes[others]), self.nms)
        return boxes[kept[: self.max_people]]


def box_iou(box: Boxes, others: Boxes) -> NDArray[np.float64]:
    """Intersection over union of one box (4 or more) with others (N, 4 or more)."""
    one, many = box[:4].astype(np.float64), others[:, :4].astype(np.float64)
    low, high = np.maximum(one[:2], many[:, :2]), np.minimum(one[:2] + one[2:], many[:, :2] + many[:, 2:])
    both = (high - low).clip(min=0).prod(axis=1)
    shares: NDArray[np.float64] = both / (one[2:].prod() + many[:, 2:].prod(axis=1) - both)
    return shares


def _inside(boxes: Boxes, height: int, width: int) -> Boxes:
    """Clip boxes to the image, and drop those that are not finite or smaller than one pixel."""
    boxes = boxes[np.isfinite(boxes).all(axis=1)]
    limit = np.array([width, height], np.float32)
    low, high = boxes[:, :2].clip(0, limit), (boxes[:, :2] + boxes[:, 2:4]).clip(0, limit)
    clipped = np.column_stack([low, high - low, boxes[:, 4]]).astype(np.float32)
    return clipped[(clipped[:, 2:4] >= 1).all(axis=1)]


def without_duplicates(task: Pose, prediction: PosePrediction, threshold: float = OKS_NMS) -> PosePrediction:
    """Of people with nearly equal joints keep only the best, as `PoseProtocol.oks_nms` does in an evaluation.

    Args:
        task: the model's task
        prediction: the people in one image
        threshold: a person whose OKS with a better-scored person is above this is removed

    Returns:
        the prediction with the people kept, in their order
    """
    if len(prediction.people) < 2:
        return prediction
    joints = np.array([person.keypoints for person in prediction.people])
    joint_scores = np.array([person.scores for person in prediction.people])
    boxes = [np.array(person.box_xywh, np.float32) for person in prediction.people]
    crops = [box_center_scale(box, task.crop_width / task.crop_height, padding=task.padding)[1] for box in boxes]
    scores = np.array([person.score for person in prediction.people]) * mean_above(joint_scores)
    kept = keep_best(joints, scores, np.prod(crops, axis=1), task.oks_sigmas, threshold=threshold)
    return replace(prediction, people=tuple(prediction.people[index] for index in sorted(kept)))
