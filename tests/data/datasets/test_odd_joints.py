import re

import numpy as np
import pytest

from metaprompts.data.datasets.odd_annotations import odd_joints

USUAL = [(10, 20, 2), (600, 470, 1), (0, 0, 0)]


@pytest.mark.parametrize(
    ("person", "words"),
    [
        (USUAL, None),
        ([(0, 1, 2), (640, 480, 2), (-9000, 9000, 0)], None),
        ([(-3, 20, 2), (645, 484, 2), (0, 0, 0)], None),
        ([(5, 5, 2), (0, 0, 0), (0, 0, 0)], None),
        ([(0, 0, 0)] * 3, None),
        ([(10, 20, 2), (900, 20, 1), (0, 0, 0)], r"1 of 4 labeled joints .* outside .*person 1, \[900, 20\] in an"),
        ([(10, 20, 2), (5, -40, 1), (0, 0, 0)], r"1 of 4 labeled joints .* outside .*person 1, \[5, -40\] in an"),
        ([(0.2, 0.9, 2), (0.7, 0.1, 1), (0.5, 0.5, 2)], "1 of 2 people .* within one pixel .*person 1.* fractions"),
        ([(50, 60, 2), (50, 60, 2), (0, 0, 0)], "1 of 2 people .* within one pixel"),
    ],
)
def test_joints_of_other_kinds_are_reported(person, words):
    """Joints as shares of the size, outside the image or all at one point were trained on without a word."""
    sizes = np.array([(640.0, 480.0)] * 2)
    boxes = np.array([(0, 0, 640, 480)] * 2)
    lines = list(odd_joints(np.array([USUAL, person], float), sizes, boxes, lambda row: f"person {row}"))
    assert len(lines) == (words is not None)
    for line in lines:
        assert re.search(words, line)


def test_images_of_unknown_size_have_no_outside():
    boxes = np.array([(0, 0, 9e3, 9)])
    assert list(odd_joints(np.array([[(9e3, 1, 2), (1, 1, 2)]]), np.full((1, 2), np.nan), boxes, str)) == []


def test_missing_joints_at_the_corner():
    """Exports that write missing joints as 0, 0 with visibility 2 were trained on without a word."""
    people = np.array([USUAL, [(0, 0, 2), (0, 0, 1), (40, 50, 2)]], float)
    boxes, sizes = np.array([(0, 0, 640, 480)] * 2), np.array([(640.0, 480.0)] * 2)
    (line,) = odd_joints(people, sizes, boxes, lambda row: f"person {row}")
    assert re.search(
        r"2 of 5 labeled joints lie at exactly 0, 0 \(the first: person 1\).* give them visibility 0", line
    )


def test_joints_outside_their_box():
    """People whose joints lay in another person's box were trained on without a word."""
    people = np.array([USUAL, [(40, 50, 2), (60, 70, 2), (400, 300, 1)], [(5, 5, 2), (99, 5, 2), (0, 0, 0)]], float)
    sizes, boxes = np.array([(640.0, 480.0)] * 3), np.array([(0, 0, 640, 480), (400, 300, 50, 80), (0, 0, 50, 50)])
    (line,) = odd_joints(people, sizes, boxes, lambda row: f"person {row}")
    assert re.search(r"1 of 3 people with most labeled joints outside their own box \(the first: person 1\)", line)
