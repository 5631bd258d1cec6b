"""Remove duplicate people."""

from dataclasses import replace

import numpy as np

from metaprompts.data.transforms.affine import box_center_scale
from metaprompts.metrics.oks_nms import keep_best, mean_above
from metaprompts.tasks.pose import Pose
from metaprompts.tasks.predictions import PosePrediction

OKS_NMS = 0.9
"""OKS above which two predicted people are the same, as in mmpose."""


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
