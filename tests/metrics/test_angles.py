"""Angular errors, against plain numpy."""

import json

import numpy as np
import pytest
import torch

from metaprompts.metrics.angles import ANGLE_SCORES, AngleScores


def tilted(degrees):
    """Unit vectors (1, 3, 1, n) tilted from the camera's direction."""
    radians = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([radians.sin(), torch.zeros_like(radians), radians.cos()])[None, :, None].float()


def test_mean_median_and_shares_of_known_angles():
    angles = [0.0, 5.0, 11.0, 12.0, 25.0, 170.0, 29.0]
    predicted, target = tilted(angles), tilted([0.0] * 7)
    target[..., -1] = 0  # the sky
    metric = AngleScores()
    metric.update(predicted, target)
    scores = metric.scores()
    assert scores["mean_deg"] == pytest.approx(np.mean(angles[:-1]), abs=1e-3)
    assert scores["median_deg"] == pytest.approx(11.0, abs=0.1)
    shares = [scores[name] for name in ("within_11.25", "within_22.5", "within_30")]
    assert shares == pytest.approx([3 / 6, 4 / 6, 5 / 6])
    assert scores["images"] == 1


def test_the_median_of_many_angles():
    angles = np.random.default_rng(0).uniform(0, 60, 5001)
    metric = AngleScores()
    metric.update(tilted(angles), tilted(np.zeros(5001)))
    assert metric.scores()["median_deg"] == pytest.approx(np.median(angles), abs=0.02)


def test_states_add_up_to_the_scores_of_all():
    parts, whole = [AngleScores(), AngleScores()], AngleScores()
    for number, part in enumerate(parts):
        angles = np.random.default_rng(number).uniform(0, 90, 100)
        part.update(tilted(angles), tilted(np.zeros(100)))
        whole.update(tilted(angles), tilted(np.zeros(100)))
    added = AngleScores()
    for part in parts:
        added.add(json.loads(json.dumps(part.state())))
    assert added.scores() == pytest.approx(whole.scores())
    assert list(whole.summary()) == list(ANGLE_SCORES)


def test_nothing_measured_is_nan_and_equal_is_zero():
    metric = AngleScores()
    metric.update(tilted([3.0]), torch.zeros(1, 3, 1, 1))
    assert all(np.isnan(metric.scores()[name]) for name in ANGLE_SCORES)
    metric.reset()
    metric.update(tilted([3.0]), tilted([3.0]))
    assert metric.scores()["mean_deg"] == 0
