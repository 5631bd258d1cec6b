from types import SimpleNamespace

import numpy as np
import pytest

from metaprompts.errors import InputError
from metaprompts.inference.detectors.base import box_iou
from metaprompts.inference.detectors.segmentation import SegmentationDetector, person_boxes
from metaprompts.models.detectors import load_detector
from metaprompts.synthetic import generate_scene
from small import small_model


def boxes(*people, confidence=0.75, size=(100, 200)):
    """Boxes of rectangles (left, top, right, bottom)."""
    mask = np.zeros(size, bool)
    for left, top, right, bottom in people:
        mask[top:bottom, left:right] = True
    return person_boxes(mask, np.full(size, confidence, np.float32))


def test_a_region_is_a_box_a_little_larger():
    """By hand: 10 x 60 pixels, a fifth wider and a twentieth taller about the same center."""
    assert boxes((50, 20, 60, 80)).tolist() == [pytest.approx([49, 18.5, 12, 63, 0.75])]


def test_a_box_ends_at_the_image():
    assert boxes((0, 40, 20, 100)).tolist() == [pytest.approx([0, 38.5, 22, 61.5, 0.75])]


def test_the_score_is_the_mean_confidence_of_the_region():
    mask = np.zeros((100, 200), bool)
    confidence = np.ones((100, 200), np.float32)
    mask[20:80, 50:60] = True
    confidence[20:40, 50:60] = 0.4
    assert person_boxes(mask, confidence)[0, 4] == pytest.approx((20 * 0.4 + 40) / 60)


def test_pixels_that_touch_at_corners_are_connected():
    assert len(boxes((50, 10, 60, 40), (60, 40, 70, 90))) == 1


def test_specks_are_nobody():
    """0.16 % of 20,000 pixels are 32."""
    assert len(boxes((50, 20, 54, 28))) == 1
    assert len(boxes((50, 20, 54, 27))) == 0
    assert boxes().shape == (0, 5)


def test_a_person_behind_a_table_is_one_person():
    """Legs below a table top were a second person."""
    (found,) = boxes((50, 10, 62, 50), (52, 55, 60, 80)).tolist()
    assert found == pytest.approx([48.8, 8.25, 14.4, 73.5, 0.75])


def test_people_above_each_other_are_two_if_the_gap_is_wide():
    assert len(boxes((50, 0, 60, 30), (50, 50, 60, 90))) == 2
    assert len(boxes((50, 0, 60, 50), (58, 52, 72, 90))) == 2, "the lower one is beside, not below"


def test_people_who_touch_are_cut_apart():
    """Two people side by side, hand in hand, were one wide person."""
    left, right = sorted(boxes((40, 20, 60, 80), (60, 45, 68, 48), (68, 25, 88, 85)).tolist())
    assert left[0] + left[2] / 2 == pytest.approx(50, abs=4)
    assert right[0] + right[2] / 2 == pytest.approx(78, abs=4)


def test_a_wide_person_without_a_waist_stays_whole():
    assert len(boxes((20, 20, 100, 80))) == 1


def test_three_people_in_a_row_are_three():
    row = [(30 + 35 * place, 20, 50 + 35 * place, 90) for place in range(3)]
    assert len(boxes(*row, (50, 50, 65, 52), (85, 50, 100, 52))) == 3


def test_many_specks_take_no_time():
    mask = np.zeros((1000, 1000), bool)
    mask[::2, ::2] = True
    assert len(person_boxes(mask, np.ones((1000, 1000), np.float32))) == 0


def test_the_embedded_model_finds_a_person():
    """In a scene that no model was trained on."""
    scene = generate_scene(8_000_001)
    best = load_detector("micro-segmentation", "cpu")(scene.image)[0]
    truth = np.array([person.box_xywh for person in scene.people], np.float32)
    assert box_iou(best, truth).max() > 0.5


@pytest.mark.parametrize(("task", "words"), [("depth", "predicts depth"), ("segmentation", "no class person")])
def test_models_that_do_not_know_people(task, words):
    with pytest.raises(InputError, match=words):
        SegmentationDetector(small_model(task))


def test_the_class_is_found_by_name():
    SegmentationDetector(SimpleNamespace(task=SimpleNamespace(classes=("sky", " Person "), name="segmentation")))
