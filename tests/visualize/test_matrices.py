import numpy as np
import pytest
from PIL import ImageColor

from metaprompts.errors import InputError
from metaprompts.visualize import figures, matrices
from metaprompts.visualize.matrices import draw_confusion, draw_matrix
from slow import slow_except

COLORS = (matrices.DARK, matrices.HIGH, matrices.LOW, matrices.MISSING)
DARK, HIGH, LOW, MISSING = map(ImageColor.getrgb, COLORS)


def places(image, color):
    """Pixels of a color, without those of the color bar at the right."""
    found = np.argwhere((image == color).all(axis=-1))
    return found[found[:, 1] < 0.9 * image.shape[1]]


def test_the_matrix_has_its_cells_where_the_names_say():
    drawn = draw_matrix(np.array([[2.0, 0.0, 0.0], [0.0, np.nan, -2.0]]), ["0", "1"], ["sky", "road", "tree"])
    high, low, missing = places(drawn, HIGH), places(drawn, LOW), places(drawn, MISSING)
    side = np.ptp(high[:, 0]) + 1
    assert side > 10
    assert len(high) == pytest.approx(side * side, rel=0.15)
    # One row of cells below and two columns to the right; the missing one is between.
    np.testing.assert_allclose(low.min(0) - high.min(0), [side, 2 * side], atol=3)
    np.testing.assert_allclose(missing.min(0) - high.min(0), [side, side], atol=3)


def test_names_must_fit():
    with pytest.raises(InputError, match="column names"):
        draw_matrix(np.zeros((2, 2)), ["a", "a"], ["b"])
    with pytest.raises(InputError, match="column names"):
        draw_matrix(np.zeros((0, 2)), [], ["b", "c"])


def test_nothing_known_still_draws():
    assert draw_matrix(np.full((1, 1), np.nan), ["0"], ["a"]).ndim == 3


def test_shares_are_darker_where_there_are_more_and_gray_where_there_are_none():
    drawn = draw_confusion(np.array([[10, 0, 0], [5, 5, 0], [0, 0, 0]]), ("a", "b", "c"))
    dark, gray = ((drawn == color).all(-1).sum() for color in (DARK, MISSING))
    # The cell of all pixels of a class has a number in it.
    assert 0.7 * gray / 3 < dark < gray / 3


def test_names_are_no_formulas():
    """A class called $x$ would be drawn as a formula, and one called $\\bad$ end the drawing."""
    names = ["$\\bad$", "a$"]
    assert draw_confusion(np.eye(2, dtype=np.int64), names).ndim == 3
    assert draw_matrix(np.eye(2), names, names).ndim == 3


@pytest.mark.parametrize("classes", slow_except([1, 150], 1))
def test_any_number_of_classes(classes):
    drawn = draw_confusion(np.eye(classes, dtype=np.int64), [f"class {index}" for index in range(classes)])
    assert (drawn == DARK).all(-1).sum() > 60 * classes


def test_very_many_rows_make_no_huge_image(monkeypatch):
    """A matrix of 16384 prompts failed at the end of the measurement: "Image size is too large"."""
    monkeypatch.setattr(figures, "_MOST_NAMED", 5)
    drawn = [draw_matrix(np.ones((rows, 2)), [str(row) for row in range(rows)], ["a", "b"]) for rows in (5, 20)]
    assert drawn[0].shape == drawn[1].shape
    areas = [len(places(image, HIGH)) for image in drawn]
    assert areas[0] == pytest.approx(areas[1], rel=0.1)
