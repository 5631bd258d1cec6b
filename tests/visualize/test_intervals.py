import math

import numpy as np
import pytest

from metaprompts.errors import InputError
from metaprompts.visualize.intervals import Row, draw_intervals

BLUE = (38, 94, 190)


def panel(mean, half_width, values):
    return (
        "t",
        [
            Row(name="a", values=values, mean=mean, half_width=half_width),
            Row(name="b", values=[0, 1], mean=0.5, half_width=math.nan),
        ],
    )


def colored(image, color):
    """Where a color is nearly pure, (row, column)."""
    return np.argwhere(np.abs(image.astype(int) - color).sum(axis=2) < 40)


def length(image):
    """Of the first row's interval: its line is the row of the image that has the most blue."""
    points = colored(image, BLUE)
    rows, counts = np.unique(points[:, 0], return_counts=True)
    return np.ptp(points[points[:, 0] == rows[counts.argmax()], 1])


def test_a_point_is_where_its_mean_is():
    """Both axes show 0 to 1; the dotted line and the point of the first row are blue."""
    low, middle, high = (
        colored(draw_intervals([panel(mean, math.nan, [mean])]), BLUE)[:, 1].mean() for mean in (0.25, 0.5, 0.75)
    )
    assert high - middle == pytest.approx(middle - low, abs=2)
    assert high - low > 150


def test_an_interval_is_as_long_as_it_is_wide():
    short, long = (length(draw_intervals([panel(0.5, half, [0.4, 0.6])])) for half in (0.2, 0.4))
    assert long == pytest.approx(2 * short, abs=4)


def test_an_interval_many_times_as_wide_as_the_values_does_not_hide_them():
    image = draw_intervals([panel(0.5, 1000.0, [0.4, 0.6])])
    # The seeds of the second row, at 0 and 1, are seen apart; faint red is between red and white.
    faint = np.argwhere((image[..., 0] > 200) & (image[..., 0] < 245) & (image[..., 2] < 190))
    assert np.ptp(faint[:, 1]) > 100


@pytest.mark.parametrize("values", [[], [3.0], [2.0, 2.0, 2.0]])
def test_few_or_equal_values_are_no_trouble(values):
    mean = float(np.mean(values)) if values else math.nan
    image = draw_intervals([("t", [Row(name="a", values=values, mean=mean, half_width=math.nan)])], "heading")
    assert image.dtype == np.uint8
    assert bool(len(colored(image, BLUE))) == bool(values)


@pytest.mark.parametrize("panels", [[], [("t", [])]])
def test_nothing_is_refused(panels):
    with pytest.raises(InputError, match="no rows"):
        draw_intervals(panels)
