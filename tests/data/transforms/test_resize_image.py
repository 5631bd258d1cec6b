"""Resizing the image alone; predictions are compared at the labels' own size."""

import numpy as np
import pytest

from metaprompts.data.sample import Sample
from metaprompts.data.transforms.geometric import ResizeImage


def resized(image, *arguments, **settings):
    labels = np.arange(image.shape[0] * image.shape[1], dtype=np.uint8).reshape(image.shape[:2])
    sample = Sample(image=image, path="", labels=labels, depth_m=labels.astype(np.float32))
    changed = ResizeImage(*arguments, **settings)(sample, np.random.default_rng(0))
    assert changed.labels is sample.labels
    assert changed.depth_m is sample.depth_m
    return changed.image


def gray(rows):
    return np.repeat(np.array(rows, np.uint8)[:, :, None], 3, axis=2)


def test_smaller_images_are_averages():
    """Every pixel of the smaller image is the mean of the four it stands for."""
    image = gray([[0, 100, 10, 10], [20, 40, 10, 30], [7, 7, 0, 0], [7, 7, 0, 200]])
    assert resized(image, 2, 2)[:, :, 0].tolist() == [[40, 15], [7, 50]]


def test_larger_images_are_blended():
    """New column j lies at old (j + 0.5) / 2 - 0.5, clamped."""
    assert resized(gray([[0, 200]]), 1, 4)[0, :, 1].tolist() == [0, 50, 150, 200]


@pytest.mark.parametrize(
    ("own", "bounds", "expected"),
    [
        ((40, 20), (10, 30), (20, 10)),
        ((20, 40), (30, 10), (10, 20)),
        ((20, 20), (10, 30), (10, 10)),
    ],
)
def test_sides_as_bounds(own, bounds, expected):
    """The longer bound is of the longer side, whichever that is; the aspect stays."""
    assert resized(np.zeros((*own, 3), np.uint8), *bounds, keeps_aspect=True).shape[:2] == expected
    assert resized(np.zeros((*own, 3), np.uint8), *bounds).shape[:2] == bounds
