import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import ImageColor

from metaprompts.metrics.prompt_report import DepthPreferences, Preferences
from metaprompts.utils.files import write_json
from metaprompts.visualize.matrices import HIGH, LOW, MISSING


def classes(**more):
    return Preferences(
        kind="class",
        names=("road", "sky | cloud"),
        mean=np.array([1.0, 0.0, 2.0]),
        std=np.array([2.0, 1.0, 0.0]),
        means=np.array([[2.0, 0.0], [-3.0, 3.0], [2.0, 2.0]]),
        **more,
    )


def test_the_table_begins_with_the_most_distinct():
    assert classes().table().splitlines() == [
        "| prompt | preferred class | z | mean there | mean | std |",
        "| --- | --- | --- | --- | --- | --- |",
        "| 1 | sky \\| cloud | 3.000 | 3.000 | 0.000 | 1.000 |",
        "| 0 | road | 0.500 | 2.000 | 1.000 | 2.000 |",
        "| 2 | - | - | - | 2.000 | 0.000 |",
    ]


def test_names_of_joints_are_words():
    """The table said: joint left_ear."""
    found = replace(classes(), kind="joint", names=("nose", "left_ear"))
    assert "| 1 | left ear |" in found.table()
    assert found.to_dict()["prompts"][1]["preferred"] == "left_ear", "as in the annotations"


def test_the_table_of_joints_has_the_peaks_distance():
    lines = classes(peak_distance_px=np.arange(6.0).reshape(3, 2)).table().splitlines()
    assert lines[0].endswith("| peak to joint (px) |")
    assert lines[2].endswith("| 3.000 |")
    assert lines[4].endswith("| - |")


def test_json_has_every_number_and_null_for_none(tmp_path):
    write_json(tmp_path / "x.json", classes().to_dict())
    content = json.loads((tmp_path / "x.json").read_text())
    assert content["kind"] == "class"
    assert content["prompts"][1] == {
        "prompt": 1,
        "mean": 0,
        "std": 1,
        "preferred": "sky | cloud",
        "z": 3,
        "means": {"road": -3, "sky | cloud": 3},
        "z_scores": {"road": -3, "sky | cloud": 3},
    }
    assert content["prompts"][2]["preferred"] is None
    assert content["prompts"][2]["z_scores"] == {"road": None, "sky | cloud": None}


def test_the_image_puts_the_same_preference_together():
    """Rows: road (prompt 0), sky (prompt 1), none. The full red cell is prompt 1's sky, second row and column."""
    drawn = np.asarray(classes().show())
    # The color bar is at the right.
    drawn = drawn[:, : drawn.shape[1] * 9 // 10]
    red, gray = (np.argwhere((drawn == ImageColor.getrgb(color)).all(axis=-1)) for color in (HIGH, MISSING))
    side = np.ptp(red[:, 0]) + 1
    assert len(red) == pytest.approx(side * side, rel=0.05)
    assert gray[:, 0].min() - red[:, 0].min() == pytest.approx(side, abs=4)
    assert red[:, 1].min() - gray[:, 1].min() == pytest.approx(side, abs=4)


def test_depth():
    found = DepthPreferences(
        correlation=np.array([0.25, -0.5, np.nan]), mean=np.array([0.0, 1, 2]), std=np.array([1.0, 1, 0])
    )
    assert [line.split(" | ")[:3] for line in found.table().splitlines()[2:]] == [
        ["| 1", "near", "-0.500"],
        ["| 0", "far", "0.250"],
        ["| 2", "-", "-"],
    ]
    assert found.to_dict()["prompts"][1] == {"prompt": 1, "correlation": -0.5, "mean": 1, "std": 1}
    drawn = np.asarray(found.show())
    red, blue = (np.argwhere((drawn == ImageColor.getrgb(color)).all(axis=-1)) for color in (HIGH, LOW))
    assert red[:, 0].max() < blue[:, 0].min()  # the positive one is on top
    assert np.ptp(blue[:, 1]) == pytest.approx(2 * np.ptp(red[:, 1]), abs=4)


def test_the_strongest_are_one_prompt_for_each_place():
    """Each place once, though prompts 0 and 1 both prefer the sky; prompt 2, the same everywhere, never."""
    means = np.array([[0.0, 2.0, 0.0], [0.0, 3.0, 0.0], [1.0, 1.0, 1.0], [2.5, 0.0, 0.0]])
    preferences = Preferences(
        kind="class", names=("road", "sky", "car"), mean=np.zeros(4), std=np.array([1.0, 1.0, 0.0, 1.0]), means=means
    )
    assert preferences.strongest(6) == [(1, 1), (3, 0)]
    assert preferences.strongest(1) == [(1, 1)]


def test_the_strongest_of_depth_are_far_and_near_in_turn():
    correlation = np.array([0.2, -0.9, 0.8, np.nan, 0.5])
    preferences = DepthPreferences(correlation=correlation, mean=np.zeros(5), std=np.ones(5))
    assert preferences.strongest(3) == [2, 1, 4]
    assert preferences.strongest(9) == [2, 1, 4, 0]
