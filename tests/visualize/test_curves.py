import numpy as np
import pytest

from metaprompts.training.curves import training_curves
from metaprompts.visualize.curves import Curve, draw_curves, running_mean


def drawn_columns(picture, color, top, bottom):
    """The columns in which a color is nearly pure, and the mean row of it in each."""
    near = (np.abs(picture[top:bottom].astype(int) - color).sum(axis=2) < 60).astype(float)
    columns = np.flatnonzero(near.any(axis=0))
    rows = (near * np.arange(bottom - top)[:, None]).sum(axis=0)[columns] / near.sum(axis=0)[columns]
    return columns, rows


def test_a_falling_line_falls_from_edge_to_edge():
    picture = draw_curves([Curve(title="loss", steps=[0, 50, 100], values=[2.0, 1.0, 0.0])], 100)
    columns, rows = drawn_columns(picture, (181, 71, 47), 26, 206)
    assert columns[0] <= 66
    assert columns[-1] >= 822
    assert np.all(np.diff(rows) > -1)
    assert rows[-1] - rows[0] > 160


def test_panels_lie_under_each_other_and_holes_are_left_out():
    one = Curve(title="a", steps=[1, 2, 3], values=[1.0, float("nan"), 2.0])
    none = Curve(title="b", steps=[], values=[])
    flat = Curve(title="c", steps=[2], values=[5.0])
    assert draw_curves([one, none, flat], 3).shape[0] == 3 * draw_curves([one], 3).shape[0]


def test_running_mean_by_hand():
    assert running_mean(np.array([1.0, 3.0, 5.0, 7.0]), 2) == pytest.approx([1, 2, 4, 6])
    assert running_mean(np.array([4.0, 2.0]), 1) == pytest.approx([4, 2])


def test_a_log_is_drawn_with_its_validations():
    lines = [{"step": step, "lr": 0.1, "total": 1 / step} for step in range(1, 101)]
    without = training_curves(lines, "mIoU")
    lines.append({"step": 100, "validation": {"mIoU": 0.5}})
    # A loss that was not finite is null in the log.
    lines.append({"step": 101, "lr": 0.1, "total": None})
    shown = training_curves(lines, "mIoU")
    assert shown.shape == without.shape
    third = shown.shape[0] * 2 // 3
    assert not np.array_equal(shown[third:], without[third:])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("values", [[1e308, -1e308, 0.0], [1e308, 1e308], [1e-300, 1e300]])
def test_values_of_any_size_are_drawn(values):
    sheet = draw_curves([Curve(title="a", steps=list(range(len(values))), values=values, smooth=2)], 2)
    assert (sheet != 255).any()
