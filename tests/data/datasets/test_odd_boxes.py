import re

import numpy as np
import pytest

from metaprompts.data.datasets.odd_annotations import odd_boxes

SIZES = np.array([(640.0, 480.0)] * 4)


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ([(10, 20, 100, 200), (500, 100, 130, 300), (0, 0, 640, 480), (-3, 200, 50, 285)], None),
        (
            [(10, 20, 100, 200), (500, 100, 630, 300), (0, 0, 640, 480), (300, 200, 350, 385)],
            r"2 of 4 .* x1, y1, x2, y2",
        ),
        (
            [(10, 20, 100, 200), (630, 100, 60, 300), (0, 0, 640, 480), (3, 200, 50, 285)],
            r"1 of 4 .* lie mostly outside",
        ),
        (
            [(0.1, 0.2, 0.3, 0.4), (0.5, 0.5, 0.1, 0.1), (0, 0, 1, 1), (0.2, 0.2, 0.5, 0.5)],
            "all 4 .* fractions of the size",
        ),
    ],
)
def test_boxes_of_other_kinds_are_reported(boxes, words):
    """Corners and fractions of the size were taken for widths: skeletons somewhere, without a word."""
    lines = odd_boxes(np.array(boxes, float), SIZES, lambda row: f"box {row}")
    assert len(lines) == (words is not None)
    for line in lines:
        assert re.search(words, line)


def test_a_huge_box_is_no_share():
    """[-1e6, -1e6, 1e6, 1e6] was said to lie within one pixel."""
    (line,) = odd_boxes(np.array([(-1e6, -1e6, 1e6, 1e6)]), SIZES[:1], str)
    assert "lie mostly outside" in line


def test_shares_of_sizes_that_are_not_known():
    """A file without width and height trained on boxes of less than a pixel, without a word."""
    (line,) = odd_boxes(np.array([(0.1, 0.2, 0.3, 0.4)]), np.full((1, 2), np.nan), str)
    assert "fractions of the size" in line


def test_images_of_unknown_size_tell_nothing():
    sizes = np.full((1, 2), np.nan)
    assert odd_boxes(np.array([(5.0, 5, 9e3, 9e3)]), sizes, str) == []
    mixed = np.concatenate([sizes, SIZES[:1]])
    (line,) = odd_boxes(np.array([(5.0, 5, 9e3, 9e3), (900, 5, 9, 9)]), mixed, lambda row: f"box {row}")
    assert "box 1, [900, 5, 9, 9]" in line
