"""A sample's truth and a model's prediction, drawn alike so that they can be compared by eye."""

from collections.abc import Sequence

import numpy as np

from metaprompts.data.samples import Sample
from metaprompts.predictions import DepthPrediction, Prediction
from metaprompts.tasks import Pose, Segmentation, Task
from metaprompts.visualize.depth import color_depth, depth_range
from metaprompts.visualize.pose import draw_skeleton
from metaprompts.visualize.segmentation import overlay_labels, palette
from metaprompts.visualize.text import Picture


def draw_truth(task: Task, sample: Sample) -> Picture:
    """What is known about a sample.

    Args:
        task: whose colors and skeleton
        sample: with targets of that task; sky is drawn at the far end of the depth that was measured

    Returns:
        (H, W, 3)
    """
    if sample.labels is not None:
        assert isinstance(task, Segmentation)
        return overlay_labels(sample.image, sample.labels, palette(len(task.classes)))
    if sample.depth_m is not None:
        near, far = depth_range(sample.depth_m)
        return color_depth(np.where(np.isposinf(sample.depth_m), far, sample.depth_m), near, far)
    assert isinstance(task, Pose)
    assert sample.person is not None
    keypoints = sample.person.keypoints[None]
    return draw_skeleton(sample.image, keypoints[..., :2], keypoints[..., 2], task.skeleton, joints=task.joints)


def draw_prediction(prediction: Prediction, sample: Sample) -> Picture:
    """A prediction of a sample's picture; depth has the truth's colors.

    Args:
        prediction: of ``sample.image``
        sample: with its targets

    Returns:
        (H, W, 3)
    """
    if isinstance(prediction, DepthPrediction):
        assert sample.depth_m is not None
        return color_depth(prediction.depth_m, *depth_range(sample.depth_m), valid=prediction.valid)
    return np.asarray(prediction.show(legend=False))


def box_of(sample: Sample) -> list[list[float]] | None:
    """The box to predict in, as `MetaPromptModel.predict` takes it, of a sample that has one."""
    return None if sample.person is None else [sample.person.box_xywh.tolist()]


def distinct_pictures(samples: Sequence[Sample]) -> list[Sample]:
    """One sample of each picture: pose has as many as there are people in it."""
    return list({sample.path: sample for sample in reversed(samples)}.values())[::-1]
