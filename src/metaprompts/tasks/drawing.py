"""Shrink samples for drawing, and draw a person with a box."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from metaprompts.data.sample import Sample
from metaprompts.data.transforms.transform import change_all
from metaprompts.visualize.pose import draw_skeleton
from metaprompts.visualize.text import ImageArray

_LARGEST_SIDE = 1024
_BOX_COLOR = (255, 255, 255)


def shrunk(sample: Sample) -> Sample:
    """A sample with no side longer than 1024 pixels; the coordinates of a person's joints are unchanged."""
    scale = min(1.0, _LARGEST_SIDE / max(sample.image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in sample.image.shape[:2])
    small = change_all(
        replace(sample, person=None),
        lambda image: cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA),
        lambda target, _: cv2.resize(target, (width, height), interpolation=cv2.INTER_NEAREST),
    )
    return replace(small, person=sample.person)


def draw_person(sample: Sample, skeleton: Sequence[tuple[int, int]], joints: Sequence[str]) -> ImageArray:
    """A sample's person, drawn with the box, (H, W, 3)."""
    assert sample.person is not None
    small = shrunk(sample).image.copy()
    scale = small.shape[0] / sample.image.shape[0]
    left, top, width, height = (sample.person.box_xywh * scale).round().astype(int).tolist()
    cv2.rectangle(small, (left, top), (left + width, top + height), _BOX_COLOR, 2)
    points = sample.person.keypoints[None, :, :2] * scale
    seen = (sample.person.keypoints[None, :, 2] > 0).astype(np.float32)
    return draw_skeleton(small, points, seen, skeleton, joints=joints)
