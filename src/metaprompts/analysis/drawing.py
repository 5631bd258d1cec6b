"""Draw a sample's ground truth and a model's prediction in the same style, for comparison by eye."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from metaprompts.data.sample import Person, Sample
from metaprompts.tasks import Pose, Segmentation, Task
from metaprompts.tasks.predictions import DepthPrediction, Prediction
from metaprompts.visualize.depth import color_depth, depth_range
from metaprompts.visualize.pose import draw_skeleton
from metaprompts.visualize.segmentation import overlay_labels, palette
from metaprompts.visualize.text import ImageArray, stack_down


def draw_truth(task: Task, sample: Sample) -> ImageArray:
    """The targets of a sample for drawing.

    Args:
        task: gives the colors and skeleton
        sample: with targets of that task; sky is drawn at the largest measured depth

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


def draw_prediction(prediction: Prediction, sample: Sample) -> ImageArray:
    """Draw a prediction of a sample's image; depth uses the color range of the ground truth.

    Args:
        prediction: prediction of ``sample.image``
        sample: with its targets

    Returns:
        (H, W, 3)
    """
    if isinstance(prediction, DepthPrediction):
        assert sample.depth_m is not None
        return color_depth(prediction.depth_m, *depth_range(sample.depth_m), valid=prediction.valid)
    return np.asarray(prediction.show(legend=False))


def box_of(sample: Sample) -> list[list[float]] | None:
    """The box of a sample with a person, in the format of `MetaPromptModel.predict`."""
    return None if sample.person is None else [sample.person.box_xywh.tolist()]


def distinct_images(samples: Sequence[Sample]) -> list[Sample]:
    """One sample of each image: pose has one sample per person."""
    return list({sample.path: sample for sample in reversed(samples)}.values())[::-1]


_BOX_COLOR = (255, 255, 255)
_SPARSE = 0.5
_LARGEST_SIDE = 1024
_POINT = np.ones((5, 5), np.uint8)


def draw_sample(
    sample: Sample,
    *,
    classes: int = 0,
    skeleton: Sequence[tuple[int, int]] = (),
    joints: Sequence[str] | None = None,
) -> ImageArray:
    """Draw classes over the image, depth below it, or a person with the box.

    Args:
        sample: a sample of a data set
        classes: number of classes, for the colors of labels
        skeleton: pairs of joint indices that are connected
        joints: their names, which determine the colors of sides; None: one color for all joints

    Returns:
        (H, W, 3), or (2 H, W, 3) for depth; no side longer than 1024 but for depth's height
    """
    scale = min(1.0, _LARGEST_SIDE / max(sample.image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in sample.image.shape[:2])
    image: ImageArray = cv2.resize(sample.image, (width, height), interpolation=cv2.INTER_AREA)
    if sample.labels is not None:
        labels = cv2.resize(sample.labels, (width, height), interpolation=cv2.INTER_NEAREST)
        return overlay_labels(image, labels, palette(classes))
    if sample.depth_m is not None:
        return stack_down(image, color_depth(_visible(sample.depth_m, (width, height))))
    if sample.person is None:
        return image
    boxed = _draw_box(image, sample.person, scale)
    points = sample.person.keypoints[None, :, :2] * scale
    seen = (sample.person.keypoints[None, :, 2] > 0).astype(np.float32)
    return draw_skeleton(boxed, points, seen, skeleton, joints=joints)


def _visible(depth_m: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Enlarge sparse points; nearer ones cover farther ones."""
    depth_m = depth_m.astype(np.float32)
    if (depth_m > 0).mean() < _SPARSE:
        nearness = np.divide(1, depth_m, out=np.zeros_like(depth_m), where=depth_m > 0)
        nearness = cv2.dilate(nearness, _POINT).astype(np.float32)
        depth_m = np.divide(1, nearness, out=np.zeros_like(nearness), where=nearness > 0)
    resized: NDArray[np.float32] = cv2.resize(depth_m, size, interpolation=cv2.INTER_NEAREST)
    return resized


def _draw_box(image: ImageArray, person: Person, scale: float) -> ImageArray:
    left, top, width, height = (person.box_xywh * scale).round().astype(int).tolist()
    drawn = image.copy()
    cv2.rectangle(drawn, (left, top), (left + width, top + height), _BOX_COLOR, 2)
    return drawn
