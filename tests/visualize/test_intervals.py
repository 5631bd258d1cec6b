import math

import numpy as np
import pytest

from metaprompts.errors import InputError
from metaprompts.visualize.intervals import Panel, Row, draw_intervals

BLUE = (38, 94, 190)


def panel(mean, half_width, values):
    return Panel(
        title="t",
        rows=[
            Row(name="a", values=values, mean=mean, half_width=half_width),
            Row(name="b", values=[0, 1], mean=0.5, half_width=0.1),
        ],
    )


def blue_columns(image):
    """Where the first row's point or line is: its line is at most 2 pixels above the middle of its row."""
    row = image[34 + 13 - 2]
    return np.flatnonzero((row == BLUE).all(axis=-1))


def test_a_point_is_where_its_mean_is():
    left, right = (blue_columns(draw_intervals([panel(mean, math.nan, [mean])])).mean() for mean in (0.25, 0.75))
    # 420 pixels show 0 to 1 and 6 % more on both sides.
    assert right - left == pytest.approx(0.5 / 1.12 * 420, abs=1.5)


def test_an_interval_is_as_long_as_it_is_wide():
    columns = blue_columns(draw_intervals([panel(0.5, 0.25, [0.4, 0.6])]))
    assert np.ptp(columns) == pytest.approx(0.5 / 1.12 * 420, abs=4)


def test_an_interval_many_times_as_wide_as_the_values_does_not_hide_them():
    image = draw_intervals([panel(0.5, 1000.0, [0.4, 0.6])])
    other = (image[34 + 26 + 13 - 2] == (181, 71, 47)).all(axis=-1)
    assert np.ptp(np.flatnonzero(other)) > 10


@pytest.mark.parametrize("values", [[], [3.0], [2.0, 2.0, 2.0]])
def test_few_or_equal_values_are_no_trouble(values):
    mean = float(np.mean(values)) if values else math.nan
    image = draw_intervals(
        [Panel(title="t", rows=[Row(name="a", values=values, mean=mean, half_width=math.nan)])], "heading"
    )
    assert image.dtype == np.uint8
    assert bool(len(np.flatnonzero((image == BLUE).all(axis=-1)))) == bool(values)


@pytest.mark.parametrize("panels", [[], [Panel(title="t", rows=[])]])
def test_nothing_is_refused(panels):
    with pytest.raises(InputError, match="no rows"):
        draw_intervals(panels)
