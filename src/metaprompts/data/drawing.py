"""Samples as pictures with what is known about them drawn in."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from metaprompts.data.samples import Person, Sample
from metaprompts.visualize.depth import color_depth
from metaprompts.visualize.pose import draw_skeleton
from metaprompts.visualize.segmentation import overlay_labels, palette
from metaprompts.visualize.text import Picture, stack_down

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
) -> Picture:
    """Draw classes over the picture, depth below it, or a person with the box.

    Args:
        sample: as a data set gives it
        classes: how many there are, for the colors of labels
        skeleton: pairs of joint indices that are connected
        joints: their names, by which sides get their colors; None: all joints look alike

    Returns:
        (H, W, 3), or (2 H, W, 3) for depth; no side longer than 1024 but for depth's height
    """
    scale = min(1.0, _LARGEST_SIDE / max(sample.image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in sample.image.shape[:2])
    picture: Picture = cv2.resize(sample.image, (width, height), interpolation=cv2.INTER_AREA)
    if sample.labels is not None:
        labels = cv2.resize(sample.labels, (width, height), interpolation=cv2.INTER_NEAREST)
        return overlay_labels(picture, labels, palette(classes))
    if sample.depth_m is not None:
        return stack_down(picture, color_depth(_visible(sample.depth_m, (width, height))))
    if sample.person is None:
        return picture
    boxed = _draw_box(picture, sample.person, scale)
    points = sample.person.keypoints[None, :, :2] * scale
    seen = (sample.person.keypoints[None, :, 2] > 0).astype(np.float32)
    return draw_skeleton(boxed, points, seen, skeleton, joints=joints)


def _visible(depth_m: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Sparse points made larger; nearer ones cover farther ones."""
    depth_m = depth_m.astype(np.float32)
    if (depth_m > 0).mean() < _SPARSE:
        nearness = np.divide(1, depth_m, out=np.zeros_like(depth_m), where=depth_m > 0)
        nearness = cv2.dilate(nearness, _POINT).astype(np.float32)
        depth_m = np.divide(1, nearness, out=np.zeros_like(nearness), where=nearness > 0)
    resized: NDArray[np.float32] = cv2.resize(depth_m, size, interpolation=cv2.INTER_NEAREST)
    return resized


def _draw_box(picture: Picture, person: Person, scale: float) -> Picture:
    left, top, width, height = (person.box_xywh * scale).round().astype(int).tolist()
    drawn = picture.copy()
    cv2.rectangle(drawn, (left, top), (left + width, top + height), _BOX_COLOR, 2)
    return drawn
