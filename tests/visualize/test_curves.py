import subprocess
import sys

import numpy as np
import pytest

from metaprompts.training import plots as training
from metaprompts.training.plots import training_curves
from metaprompts.visualize import curves
from metaprompts.visualize.curves import Curve, draw_curves, running_mean

RED, GRAY = (181, 71, 47), (195, 201, 212)


def drawn(image, color):
    """Where a color is nearly pure, (row, column)."""
    return np.argwhere(np.abs(image.astype(int) - color).sum(axis=2) < 40)


def test_a_falling_line_falls_from_edge_to_edge():
    points = drawn(draw_curves([Curve(title="a", unit="loss", steps=[0, 50, 100], values=[2.0, 1.0, 0.0])], 100), RED)
    assert np.ptp(points[:, 1]) > 700
    left, right = (points[points[:, 1] == column, 0].mean() for column in (points[:, 1].min(), points[:, 1].max()))
    assert right - left > 120


def test_the_last_point_is_whole():
    """The right edge of the axes cut the last marker in half."""
    image = draw_curves([Curve(title="a", unit="loss", steps=[0, 5, 10], values=[0.0, 1.0, 0.5])], 10)
    points = drawn(image, RED)
    right = points[:, 1].max()
    # A marker is as wide to the right of its center as the one in the middle, which is whole.
    height = np.ptp(points[points[:, 1] >= right - 1, 0])
    assert height <= 5


def test_steps_have_whole_numbers(monkeypatch):
    """The axis "training step" had ticks at 2.5 and 7.5."""
    figures = []
    draw = curves.draw_figure
    monkeypatch.setattr(
        curves, "draw_figure", lambda size, paint: draw(size, lambda each: paint(figures.append(each) or each))
    )
    for last in (1, 10, 33, 400):
        draw_curves([Curve(title="a", unit="loss", steps=[0, last], values=[0.0, 1.0])], last)
        ticks = figures[-1].axes[-1].get_xticks()
        assert len(ticks) >= 2
        assert (ticks == np.round(ticks)).all()


def test_panels_lie_under_each_other_and_holes_are_left_out():
    one = Curve(title="a", unit="m", steps=[1, 2, 3], values=[1.0, float("nan"), 2.0])
    none = Curve(title="b", unit="m", steps=[], values=[])
    flat = Curve(title="c", unit="m", steps=[2], values=[5.0])
    assert draw_curves([one, none, flat], 3).shape[0] == 3 * draw_curves([one], 3).shape[0]


def test_running_mean_by_hand():
    assert running_mean(np.array([1.0, 3.0, 5.0, 7.0]), 2) == pytest.approx([1, 2, 4, 6])
    assert running_mean(np.array([4.0, 2.0]), 1) == pytest.approx([4, 2])


@pytest.fixture
def panels(monkeypatch):
    """What `training_curves` wants drawn."""
    found = []
    monkeypatch.setattr(training, "draw_curves", lambda curves, last: found.extend([*curves, last]))
    return found


def test_a_log_is_drawn_with_its_validations(panels):
    lines = [{"step": step, "lr": 0.1, "total": 1 / step} for step in range(1, 101)]
    lines.append({"step": 100, "validation": {"mIoU": 0.5}})
    # A loss that was not finite is null in the log.
    lines.append({"step": 101, "lr": 0.1, "total": None})
    training_curves(lines, "mIoU")
    loss, _, scores, last = panels
    assert (loss.smooth, loss.limits, last) == (2, (0, None), 101)
    assert np.isnan(loss.values[-1])
    assert (scores.steps, scores.values) == ([100], [0.5])


@pytest.mark.parametrize(
    ("metric", "values", "limits"),
    [("mIoU", [0.411, 0.412], (0, 1.02)), ("AP", [-1, 0.3], (0, 1.02)), ("rmse", [2.0, 4.0], (0, 4.2))],
)
def test_scores_are_not_enlarged_to_their_noise(panels, metric, values, limits):
    """mIoU 0.411, 0.412, 0.411 resembled a mountain: the axis went from the least to the largest."""
    training_curves([{"step": step, "validation": {metric: value}} for step, value in enumerate(values)], metric)
    scores = panels[2]
    assert scores.limits == pytest.approx(limits)
    assert ("axis from 0" if metric == "rmse" else "axis always from 0 to 1") in scores.title
    assert np.isnan(scores.values[0]) == (values[0] < 0)


def test_a_smoothed_curve_lies_over_its_values():
    values = np.random.default_rng(0).normal(1, 0.2, 200).tolist()
    image = draw_curves([Curve(title="a", unit="loss", steps=list(range(200)), values=values, smooth=20)], 200)
    assert np.ptp(drawn(image, GRAY)[:, 0]) > 2 * np.ptp(drawn(image, RED)[len(drawn(image, RED)) // 3 :, 0])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("values", [[1e308, -1e308, 0.0], [1e308, 1e308], [1e-300, 1e300], [0.0, 0.0, 0.0], [5.0]])
@pytest.mark.parametrize("cut", [True, False])
def test_values_of_any_size_are_drawn(values, cut):
    curve = Curve(title="a", unit="", steps=list(range(len(values))), values=values, smooth=2, cut_outliers=cut)
    assert len(drawn(draw_curves([curve], 2), RED)) > 0


def test_nothing_but_drawing_needs_matplotlib():
    """Half a second for each prediction and each --help."""
    code = (
        "import sys, metaprompts.cli, metaprompts.training.plots, metaprompts.visualize.curves, "
        "metaprompts.visualize.fonts"
    )
    subprocess.run([sys.executable, "-c", f"{code}; assert 'matplotlib' not in sys.modules"], check=True)
