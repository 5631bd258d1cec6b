"""Outlines against the programs that will draw them: pycocotools and Pillow."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as masks

from metaprompts.synthetic.layouts.outlines import edge_polygons, painted_outlines

RING = np.pad(np.pad([[False]], 1, constant_values=True), 1)
NESTED = np.pad(np.pad(np.pad([[True]], 1), 1, constant_values=True), 1)
CORNERS = np.eye(5, dtype=bool) | np.eye(5, dtype=bool)[::-1]
FULL = np.ones((3, 4), dtype=bool)


def noise(seed, share):
    return np.random.default_rng(seed).random((11, 14)) < share


@pytest.mark.parametrize(
    "mask", [RING, NESTED, CORNERS, ~CORNERS, FULL, *(noise(seed, seed / 12) for seed in range(1, 12))]
)
def test_coco_gives_the_mask_again(mask):
    polygons = edge_polygons(mask)
    decoded = masks.decode(masks.merge(masks.frPyObjects(polygons, *mask.shape)))
    assert np.array_equal(decoded, mask)


@pytest.mark.parametrize(
    "pieces",
    [
        RING,
        NESTED,
        CORNERS,
        FULL,
        *(np.random.default_rng(seed).integers(0, 2 + seed % 3, (11, 14)) for seed in range(9)),
    ],
)
def test_painting_gives_the_pieces_again(pieces):
    image = Image.new("L", pieces.shape[::-1], 255)
    for number, polygon in painted_outlines(pieces):
        ImageDraw.Draw(image).polygon([tuple(point) for point in polygon], fill=number)
    assert np.array_equal(np.array(image), pieces)
