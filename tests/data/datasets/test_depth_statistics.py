import numpy as np

from metaprompts.data.datasets.depth_statistics import DepthStatistics
from metaprompts.data.sample import Sample


def counted(*maps):
    statistics = DepthStatistics(min_depth_m=1e-3, max_depth_m=10)
    for number, depth_m in enumerate(maps):
        image = np.zeros((*np.shape(depth_m), 3), np.uint8)
        statistics.update(Sample(image=image, path=f"{number}.png", depth_m=np.array(depth_m, np.float32)))
    return statistics


def test_shares_out_of_range():
    """A sentinel of 65535 mm for "no measurement" was trained on, and nothing said how much of it there was."""
    (line,) = counted([[0, 1, 2, 65.535]], [[10, 3, 4, 0.001]]).lines()
    assert line == (
        "depth of 2 images: 12.5% of the pixels unmeasured, 25% at or beyond task.max_depth_m 10 (up to 65.535 m), "
        "12.5% at or below task.min_depth_m 0.001"
    )


def test_meters_read_as_millimeters():
    """Meters in an integer .npy, 1 to 8, trained as 1 to 8 mm without a word."""
    (_, line) = counted([[0, 0.001, 0.008]]).lines()
    assert line == "warning: depth up to 0.008 m looks like meters read as millimeters: try --data.depth_scale 1"
    assert "looks like" not in " ".join(counted([[0, 0.001, 0.2]], [[0, 0]]).lines())


def test_only_none_and_all_read_as_that():
    one_in_many = np.ones((100, 100))
    one_in_many[0, 0] = 20
    assert "<0.1% at or beyond" in counted(one_in_many).lines()[0]
    assert ">99.9% of the pixels unmeasured" in counted(one_in_many * (one_in_many > 1)).lines()[0]


def test_maps_that_look_like_a_mistake():
    """A writer that filled every file with one value, or wrote one file many times, went unnoticed."""
    lines = counted([[3, 3]], [[1, 2]], [[1, 2]], [[0, 0]], [[0, 0]]).lines()
    assert lines[1:] == [
        "warning: 2 of 5 depth maps without a pixel in range",
        "warning: 1 of 5 depth maps with a single value",
        "warning: 1 of 5 depth maps repeat that of another image, such as those of 2.png and 1.png",
    ]


def test_millimeters_taken_for_meters_are_guessed():
    """Floats of millimeters were said to be out of range, but not what to do about it."""
    assert counted([[0, 1500, 4000]]).units_hint() == (
        "; values up to 4000 look like millimeters: try --data.depth_scale 1000"
    )
    assert counted([[0, 40]]).units_hint() == ""
    assert counted([[0, 4000]], [[1, 2]]).units_hint() == ""


def test_samples_without_depth():
    statistics = DepthStatistics(min_depth_m=1e-3, max_depth_m=10)
    statistics.update(Sample(image=np.zeros((1, 1, 3), np.uint8), path="a"))
    assert statistics.lines() == []


def test_the_sky_is_neither_unmeasured_nor_out_of_range():
    """Sky, which data.sky makes infinitely far, was reported as "at or beyond the maximum (up to inf m); masked"."""
    statistics = counted([[np.inf, 1, 2, 3]], [[np.inf] * 4])
    assert statistics.range_line() == (
        "depth of 2 images: 0% of the pixels unmeasured, 0% at or beyond task.max_depth_m 10, 62.5% sky"
    )
    assert statistics.unusable == 1
