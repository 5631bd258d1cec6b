import numpy as np
import pytest

from metaprompts.errors import InputError
from metaprompts.visualize.heatmaps import most_distinct, normalize, overlay_heat


def test_the_least_value_becomes_0_and_the_largest_1():
    np.testing.assert_allclose(normalize(np.array([[-2.0, 0.0], [2.0, 6.0]])), [[0, 0.25], [0.5, 1]])


def test_a_constant_map_has_no_heat():
    assert (normalize(np.full((2, 3), 7.0)) == 0).all()


def test_what_was_not_seen_counts_for_nothing():
    seen = np.array([[True, True, False, False]])
    heat = normalize(np.array([[1.0, 3.0, 99.0, -np.inf]]), seen)
    assert heat.tolist() == [[0, 1, 0, 0]]
    assert normalize(np.array([[5.0]]), np.array([[False]])).tolist() == [[0]]


def test_nan_is_reported():
    with pytest.raises(InputError, match="NaN"):
        normalize(np.array([[np.nan, 1.0]]))


def test_heat_is_blue_then_green_then_red_over_gray():
    """Of a gray image 100 at opacity 0.5, half of each color stays."""
    image = np.full((1, 4, 3), 100, np.uint8)
    heat = np.array([[0.0, 0.5, 1.0, 1.0]], np.float32)
    drawn = overlay_heat(image, heat, np.array([[True, True, True, False]]), opacity=0.5)[0].astype(int)
    assert drawn[0].argmax() == 2
    assert drawn[1].argmax() == 1
    assert drawn[2].argmax() == 0
    assert drawn[3].tolist() == [100, 100, 100]
    full = overlay_heat(image, heat, opacity=1.0)[0].astype(int)
    np.testing.assert_allclose(drawn[:3], (100 + full[:3]) / 2, atol=0.5)
    np.testing.assert_allclose(full[3], full[2])


def test_the_image_loses_its_colors():
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 255
    drawn = overlay_heat(red, np.zeros((2, 2), np.float32), opacity=0.0)
    assert (drawn == 76).all()  # 0.299 * 255


@pytest.mark.parametrize("heat", [np.zeros((3, 4)), np.full((2, 2), 1.5), np.full((2, 2), np.nan)])
def test_heat_that_does_not_fit_is_reported(heat):
    with pytest.raises(InputError, match=r"expected heat of the image's size|outside 0..1"):
        overlay_heat(np.zeros((2, 2, 3), np.uint8), heat)


LEFT = np.array([1.0, 1, 0, 0])
UPPER = np.array([1.0, 0, 1, 0])
DOT = np.array([1.0, 0, 0, 0])


def test_copies_and_negatives_and_constants_come_last():
    """Variances after 0..1: halves 1/4, dot 3/16. A scaled copy of the first has r = 1, its negative too."""
    maps = np.stack([np.full(4, 9.0), DOT, 10 * LEFT - 3, LEFT, -2 * LEFT, UPPER])
    chosen = most_distinct(maps, 6)
    assert chosen[:2] == [2, 5]  # uncorrelated halves; the lower number of equals
    assert chosen[2] == 1
    assert sorted(chosen[3:]) == [0, 3, 4]


def test_a_clear_map_that_resembles_is_weighed_against_a_faint_one_that_does_not():
    """r(LEFT, DOT) = 1 / sqrt 3, so DOT gains 3/16 * (1 - 0.577) = 0.079; a map of variance 0.07 and r = 0 loses."""
    wave = np.array([0.3, -0.3, 1, -1])
    faint = (wave - wave.min()) / np.ptp(wave)
    assert abs(np.corrcoef(LEFT, faint)[0, 1]) < 1e-12
    assert faint.var() > 0.079
    assert most_distinct(np.stack([LEFT, DOT, faint]), 2) == [0, 2]
    scores = [DOT.var() * (1 - abs(np.corrcoef(LEFT, DOT)[0, 1])), faint.var()]
    assert scores[0] < scores[1] < DOT.var()


def test_more_than_there_are_gives_all():
    assert sorted(most_distinct(np.eye(3), 10)) == [0, 1, 2]
