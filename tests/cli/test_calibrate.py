import json
import math

import pytest
import torch

from metaprompts.cli import main
from metaprompts.engines.calibrate import LogPairs, fit
from metaprompts.errors import InputError


def scores_of(model, data, out):
    assert main(["evaluate", str(model), "--data.root", str(data), "--worst", "0", "--out", str(out)]) == 0
    return json.loads((out / "metrics.json").read_text())


@pytest.mark.slow
def test_the_calibrated_model_is_evaluated_as_its_calibration_says(home, data, tmp_path, capsys):
    assert main(["calibrate", "micro-depth", "--data.root", str(data), "--out", str(tmp_path / "model")]) == 0
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "model/calibration.json").read_text())
    assert found["images"] == 4
    for model, expected in (("micro-depth", found["before"]), (tmp_path / "model", found["after"])):
        scores = scores_of(model, data, tmp_path / f"scores{len(str(model))}")
        assert {name: scores[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert found["after"]["rmse"] < found["before"]["rmse"]
    assert f"{found['left_out']['rel']:.4f}" in said


@pytest.mark.slow
def test_a_second_calibration_changes_nothing(home, data, tmp_path):
    """It applies to the calibrated output, not to the head's."""
    first, second = tmp_path / "first", tmp_path / "second"
    for model, out in (("micro-depth", first), (first, second)):
        assert main(["calibrate", str(model), "--data.root", str(data), "--out", str(out)]) == 0
    found = json.loads((second / "calibration.json").read_text())
    assert (found["scale"], found["shift"]) == pytest.approx((1, 0), abs=1e-5)
    one, other = (json.loads((out / "config.json").read_text())["task"] for out in (first, second))
    assert one["log_scale"] == pytest.approx(other["log_scale"])
    assert one["log_shift"] == pytest.approx(other["log_shift"], abs=1e-5)


@pytest.mark.slow
def test_bad_words_are_one_line(home, data, tmp_path, capsys):
    root = ["--data.root", str(data)]
    for words, message in {
        ("micro-segmentation", *root): "micro-segmentation predicts segmentation; expected a depth model",
        ("micro-depth", *root, "--data.depth_scale", "1e-6"): "has depth between 0.001 and",
    }.items():
        assert main(["calibrate", *words]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert message in error
    assert not (tmp_path / "here/calibrated").exists()


def pairs(*rows):
    return [LogPairs(*(torch.tensor(each, dtype=torch.float64) for each in row)) for row in rows]


def test_an_exact_law_is_found():
    predicted = [0.0, 1.0, 2.0]
    assert fit(pairs((predicted, [0.5 + 2 * each for each in predicted]))) == pytest.approx((2, 0.5))


def test_each_image_has_the_same_weight():
    """Worked by hand: shifts of 1 (one pixel) and 3 (four pixels) give 2."""
    images = pairs(([0.0], [1.0]), ([0.0] * 4, [3.0] * 4))
    assert fit(images, shift_only=True) == (1, pytest.approx(2))


def test_images_of_one_distance_fit_no_scale():
    assert fit(pairs(([1.0, 1.001], [2.0, 3.0]))) == (1, pytest.approx(1.4995))


def test_predictions_that_fall_with_the_truth_are_an_error():
    with pytest.raises(InputError, match=r"does not grow with the true depth \(fitted scale -1\)"):
        fit(pairs(([0.0, math.log(2)], [math.log(2), 0.0])))
