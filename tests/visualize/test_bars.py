import numpy as np
import pytest
from PIL import ImageColor

from metaprompts.errors import InputError
from metaprompts.visualize import figures
from metaprompts.visualize.bars import Stack, draw_bars, draw_stacks
from metaprompts.visualize.matrices import HIGH, LOW


def places(image, color):
    return np.argwhere((image == ImageColor.getrgb(color)).all(axis=-1))


def test_bars_go_to_their_side_and_have_their_length():
    drawn = draw_bars(np.array([1.0, -0.5, np.nan]), ["a", "b", "c"], limit=1.0)
    high, low = places(drawn, HIGH), places(drawn, LOW)
    assert np.ptp(high[:, 1]) == pytest.approx(2 * np.ptp(low[:, 1]), abs=4)
    assert low[:, 1].max() < high[:, 1].min()
    assert low[:, 0].min() > high[:, 0].max()


def test_names_must_fit():
    with pytest.raises(InputError, match="names"):
        draw_bars(np.zeros(2), ["a"] * 3, limit=1.0)


def test_stacks_are_as_long_as_their_parts():
    stacks = [
        Stack(name="one", parts={"VAE": 1.0, "head": 1.0}, note="2 s", second=1.0, second_note="1 GiB"),
        Stack(name="other", parts={"VAE": 0.5}, note="0.5 s", second=2.0, second_note="2 GiB"),
    ]
    drawn = draw_stacks(stacks, ("seconds", "GiB"))
    # Matplotlib's first color, and slate gray; the legend is at the bottom.
    first, second = (places(drawn[: len(drawn) * 65 // 100], color) for color in ("#1f77b4", "slategray"))
    for points, ratio in ((first, 0.5), (second, 2.0)):
        is_upper = points[:, 0] < (points[:, 0].min() + points[:, 0].max()) / 2
        assert np.ptp(points[~is_upper, 1]) == pytest.approx(ratio * np.ptp(points[is_upper, 1]), abs=4)
    with pytest.raises(InputError, match="no bars"):
        draw_stacks([], ("a", "b"))


def test_very_many_bars_make_no_huge_image(monkeypatch):
    """Bars of 16384 prompts failed at the end of the measurement: "Image size is too large"."""
    monkeypatch.setattr(figures, "_MOST_NAMED", 5)
    drawn = [draw_bars(np.ones(rows), [str(row) for row in range(rows)], 1.0) for rows in (5, 20)]
    assert drawn[0].shape == drawn[1].shape
