import numpy as np
import pytest

from metaprompts.errors import InputError
from metaprompts.visualize.plots import HIGH, LOW, diverging, draw_bars, draw_matrix


def test_signs_have_colors():
    colors = diverging(np.array([-1.0, 0.0, 1.0, np.nan]))
    assert tuple(colors[0]) == LOW
    assert tuple(colors[1]) == (255, 255, 255)
    assert tuple(colors[2]) == HIGH
    assert len(set(colors[3].tolist())) == 1
    assert colors[3, 0] < 255
    np.testing.assert_allclose(diverging(np.array(0.5)), (np.array(HIGH) + 255) / 2, atol=0.5)


def places(image, color):
    return np.argwhere((image == color).all(axis=-1))


def test_the_matrix_has_its_cells_where_the_names_say():
    values = np.array([[2.0, 0.0, 0.0], [0.0, 0.0, -2.0]])
    drawn = draw_matrix(values, ["0", "1"], ["sky", "road", "tree"])
    high, low = places(drawn, HIGH), places(drawn, LOW)
    assert len(high) == len(low) == 16 * 16
    # One row of cells below and two columns to the right.
    np.testing.assert_array_equal(low.min(0) - high.min(0), [16, 32])


def test_bars_go_to_their_side_and_have_their_length():
    drawn = draw_bars(np.array([1.0, -0.5, np.nan]), ["a", "b", "c"], limit=1.0)
    high, low = places(drawn, HIGH), places(drawn, LOW)
    assert np.ptp(high[:, 1]) + 1 in (159, 160)  # one column is under the axis
    assert np.ptp(low[:, 1]) + 1 == 80
    assert low[:, 1].max() < high[:, 1].min()
    assert low[:, 0].min() - high[:, 0].min() == 16
    assert len(drawn) == 3 * 16 + 16


@pytest.mark.parametrize("values", [np.zeros((2, 2)), np.zeros((0, 2))])
def test_names_must_fit(values):
    with pytest.raises(InputError, match="column names"):
        draw_matrix(values, ["a"] * len(values), ["b"])
    with pytest.raises(InputError, match="names"):
        draw_bars(values[:, 0], ["a"] * (len(values) + 1), limit=1.0)


def test_nothing_known_still_draws():
    assert draw_matrix(np.full((1, 1), np.nan), ["0"], ["a"]).ndim == 3
