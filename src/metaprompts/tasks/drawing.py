"""Shrink samples for drawing."""

from dataclasses import replace

import cv2

from metaprompts.data.sample import Sample
from metaprompts.data.transforms.transform import change_all

_LARGEST_SIDE = 1024


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
