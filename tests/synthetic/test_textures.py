"""Patterns, averaged over a pixel's footprint."""

import numpy as np
import pytest

from metaprompts.synthetic.rng import Rng
from metaprompts.synthetic.textures import noise, pulse
from metaprompts.synthetic.vectors import FORWARD, RIGHT, UP, Vector, cosine_and_sine, turned


@pytest.mark.parametrize("share", [0.1, 0.5, 0.94])
@pytest.mark.parametrize("width", [0.01, 0.3, 1.0, 2.7])
def test_pulse_is_the_marked_share_of_an_interval(share, width):
    middles = np.random.default_rng(0).uniform(-5, 5, 40)
    fine = middles[:, None] + (np.arange(4000) + 0.5) / 4000 * width - width / 2
    expected = (fine - np.floor(fine) < share).mean(1)
    np.testing.assert_allclose(pulse(middles, share, np.full(40, width)), expected, atol=2e-3)


def test_noise_is_smooth_and_spread_over_its_range():
    x, y = np.random.default_rng(0).uniform(-50, 50, (2, 20000))
    values = noise(x, y)
    assert 0 <= values.min() < 0.05
    assert 0.95 < values.max() <= 1
    assert values.mean() == pytest.approx(0.5, abs=0.03)
    assert np.abs(noise(x + 1e-4, y) - values).max() < 1e-3


@pytest.mark.parametrize("angle", [0, 30, 44.9, 45.1, 90, 135, 180, 250, -17, -90, -271, 720.5])
def test_cosine_and_sine_are_the_usual_ones(angle):
    expected = (np.cos(np.radians(angle)), np.sin(np.radians(angle)))
    np.testing.assert_allclose(cosine_and_sine(angle), expected, atol=2e-16)


def test_turning_takes_forward_to_the_right_and_leaves_up():
    np.testing.assert_allclose(turned(FORWARD, 90), RIGHT, atol=1e-15)
    assert turned(UP, 70) == UP
    assert RIGHT.cross(UP) == FORWARD
    assert turned(Vector(1, 2, 3), 33).length() == pytest.approx(Vector(1, 2, 3).length())


def test_rng_draws_all_of_its_range_and_repeats():
    rng, again = Rng(7), Rng(7)
    draws = [rng.whole(2, 5) for _ in range(400)]
    assert draws == [again.whole(2, 5) for _ in range(400)]
    assert set(draws) == {2, 3, 4, 5}
    assert sorted(rng.shuffled("abcdef")) == list("abcdef")
    assert {rng.choice("xyz") for _ in range(60)} == set("xyz")
    share = np.mean([rng.happens(0.3) for _ in range(4000)])
    assert share == pytest.approx(0.3, abs=0.03)
