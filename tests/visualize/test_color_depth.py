import numpy as np
import pytest

from metaprompts.errors import InputError
from metaprompts.visualize.depth import color_depth, color_notes, depth_legend, depth_range
from metaprompts.visualize.text import PAPER


def brightness(colors):
    return colors.astype(float) @ [0.299, 0.587, 0.114]


def test_near_is_bright_and_every_step_is_darker():
    colors = color_depth(np.linspace(1, 5, 64, dtype=np.float32)[None], 1.0, 5.0)
    steps = np.diff(brightness(colors)[0])
    assert colors.dtype == np.uint8
    assert (steps < 0).all()
    assert brightness(colors)[0, 0] > 200


def test_nothing_measured_is_black_and_measured_never_is():
    depth = np.array([[np.nan, np.inf, 0.0, -1.0, 2.0, 1.0, 9.0]], dtype=np.float32)
    valid = np.array([[True, True, True, True, False, True, True]])
    black = (color_depth(depth, 1.0, 9.0, valid) == 0).all(-1)
    assert black[0].tolist() == [True] * 5 + [False] * 2
    assert brightness(color_depth(depth, 1.0, 9.0, valid))[0, 6] > 10


def test_color_is_red_green_blue():
    """Inferno is orange in its middle: an order of BGR would make it blue."""
    red, _, blue = color_depth(np.array([[2.0]]), 1.0, 5.0)[0, 0].tolist()
    assert red > 200 > 100 > blue


def test_beyond_the_range_takes_the_color_of_its_end():
    colors = color_depth(np.array([[0.5, 1.0, 5.0, 50.0]]), 1.0, 5.0)
    assert colors[0, 0].tolist() == colors[0, 1].tolist()
    assert colors[0, 2].tolist() == colors[0, 3].tolist()


def test_range_ignores_outliers_and_invalid_depth():
    depth = np.full((100, 100), 3.0)
    depth[0, :50] = 1000.0
    depth[50:] = 2.0
    depth[99] = np.nan
    assert depth_range(depth) == (2.0, 3.0)
    assert depth_range(depth, depth == 2.0) == (2.0, 2.0)
    assert depth_range(np.full((2, 2), np.nan)) == (0.0, 1.0)


@pytest.mark.parametrize("size", [(1, 1), (20000, 50), (50, 20000), (3, 700)])
def test_any_size(size):
    depth = np.full(size, 2.0, dtype=np.float32)
    colors = color_depth(depth)
    assert colors.shape == (*size, 3)
    strip = depth_legend(1.0, 3.0, size[1])
    assert strip.shape[1] == max(size[1], 160)
    assert 20 < strip.shape[0] < 120


@pytest.mark.parametrize("width", [160, 320, 1000])
def test_labels_keep_clear_of_the_edges(width):
    """The label 80 m touched the right edge of an image 320 pixels wide."""
    strip = depth_legend(0.0, 80.0, width)
    assert (strip[:, :4] == PAPER).all()
    assert (strip[:, -4:] == PAPER).all()


def test_legend_runs_from_near_to_far():
    strip = depth_legend(1.0, 5.0, 320)
    bar = brightness(strip)[8]
    assert bar[8] > 200
    assert bar[160] < bar[8]
    assert bar[-10] < 40
    assert strip[20:].min() < 80, "no text below the bar"


def test_only_maps_are_colored():
    with pytest.raises(InputError, match="expected \\(height, width\\)"):
        color_depth(np.zeros((1, 4, 4)))


def test_the_ends_of_the_color_scale_are_explained() -> None:
    """The legend said: one color, all depth is nearer than 3.6 m."""
    depth_m = np.linspace(1, 100, 10_000, dtype=np.float32).reshape(100, 100)

    notes = color_notes(depth_m)

    near, far = depth_range(depth_m)
    assert notes[1:] == [
        f"depths below {near:.2g}\u00a0m share one color",
        f"depths above {far:.2g}\u00a0m share one color",
    ]
