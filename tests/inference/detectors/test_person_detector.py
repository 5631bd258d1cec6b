import numpy as np
import pytest
from PIL import Image

from metaprompts.errors import InputError
from metaprompts.inference.detectors.base import PersonDetector


class Fixed:
    """A detector that finds the same boxes in every image."""

    default_score = 0.5

    def __init__(self, *boxes):
        self.boxes = np.array(boxes, np.float32)

    def __call__(self, image):
        return self.boxes


IMAGE = np.zeros((100, 200, 3), np.uint8)


def test_boxes_are_cut_at_the_image_and_sorted():
    detector = PersonDetector(detector=Fixed((-10, 5, 30, 20, 0.6), (190, 90, 50, 50, 0.9), (50, 50, 10, 10, 0.49)))
    assert detector(IMAGE).tolist() == [
        pytest.approx([190, 90, 10, 10, 0.9]),
        pytest.approx([0, 5, 20, 20, 0.6]),
    ]


@pytest.mark.parametrize("box", [(-30, 0, 20, 20), (200, 0, 9, 9), (5, 5, 0.5, 9), (5, 5, 9, -9), (np.nan, 0, 9, 9)])
def test_boxes_that_hold_nothing_are_left_out(box):
    detector = PersonDetector(detector=Fixed((*box, 0.9)))
    assert detector(IMAGE).shape == (0, 5)


def test_of_overlapping_boxes_the_best_is_kept():
    # By hand: the first two share 15 of 25 columns (IoU 0.6), the first and third 10 of 30 (IoU 1/3).
    boxes = Fixed((0, 0, 20, 10, 0.7), (5, 0, 20, 10, 0.8), (15, 0, 20, 10, 0.6))
    for threshold, lefts in ((0.59, [5, 15]), (0.61, [5, 0, 15]), (0.3, [5])):
        found = PersonDetector(detector=boxes, nms=threshold)(IMAGE)
        assert found[:, 0].tolist() == lefts


def test_at_most_so_many_people_are_the_best():
    boxes = [(30 * place, 0, 20, 20, score) for place, score in enumerate((0.6, 0.9, 0.8))]
    found = PersonDetector(detector=Fixed(*boxes), max_people=2)(IMAGE)
    assert found[:, 4].tolist() == pytest.approx([0.9, 0.8])
    assert len(PersonDetector(detector=Fixed(*boxes), min_score=0.85)(IMAGE)) == 1


def test_files_and_pil_images_are_read(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    detector = PersonDetector(detector=Fixed((0, 0, 20, 20, 1)))
    for image in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(IMAGE)):
        assert len(detector(image)) == 1


@pytest.mark.parametrize(("key", "value"), [("min_score", 1.5), ("nms", -0.1), ("max_people", 0)])
def test_settings_outside_their_range(key, value):
    with pytest.raises(InputError, match=f"{key} is {value}"):
        PersonDetector(detector=Fixed(), **{key: value})
