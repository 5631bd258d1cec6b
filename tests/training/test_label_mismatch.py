"""Models scored on masks of other classes, and scores that are not measurements."""

import json

import numpy as np
import pytest
from PIL import Image

from metaprompts.cli import main
from metaprompts.cli.outcome import report_undefined
from metaprompts.data.datasets.label_histogram import count_labels
from metaprompts.data.sample import Sample
from metaprompts.tasks import TASKS
from metaprompts.training.label_mismatch import show_missing_classes, warn_below_random
from small import small_model


def counted(labels, classes):
    labels = np.array([labels], np.uint8)
    return count_labels([Sample(image=np.zeros((1, 1, 3), np.uint8), path="", labels=labels)], classes)


def test_most_classes_of_a_model_never_occur(capsys):
    """17 classes scored on masks of two gave mIoU 0.0023 without a word."""
    names = tuple("abcdefg")
    show_missing_classes(counted([0, 1, 1], names))
    assert "classes in the only mask" in (said := capsys.readouterr().err)
    assert "--data.label_map" in said
    show_missing_classes(counted([0, 1, 2, 3], names))
    assert not capsys.readouterr().err


def test_a_score_below_that_of_one_who_sees_nothing(capsys):
    labels = counted([0, 0, 0, 1], ("wall", "floor", "lamp"))
    warn_below_random(labels, {"mIoU": 0.37})
    assert "is less than 0.3750, the score of predicting 'wall' everywhere" in capsys.readouterr().err
    for value in (0.38, float("nan")):
        warn_below_random(labels, {"mIoU": value})
        assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "scores", "code"),
    [
        ("segmentation", {"mIoU": float("nan")}, 1),
        ("segmentation", {"mIoU": 0.0}, 0),
        ("depth", {"rmse": None}, 1),
        ("pose", {"AP": -1.0}, 1),
        ("pose", {"AP": 0.0}, 0),
    ],
)
def test_an_undefined_score_is_no_success(task, scores, code, capsys):
    """A split in which nothing could be scored ended with mIoU nan and exit code 0."""
    assert report_undefined(TASKS[task], scores) == code
    assert ("is undefined" in capsys.readouterr().err) == bool(code)


@pytest.fixture
def ignored(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    Image.new("L", (64, 64), 255).save(tmp_path / "all_ignored.png")
    (tmp_path / "list.txt").write_text("a.png all_ignored.png\n" * 2)
    return tmp_path


def test_nothing_but_ignored_pixels_is_neither_trained_on_nor_scored(ignored, tmp_path, capsys):
    data = ("--data.root", str(ignored), "--data.train", "list.txt", "--data.val", "list.txt")
    words = ("--training.batch_size", "2", "--training.output_dir", str(tmp_path / "run"), "--data.num_workers", "0")
    assert main(["train", "micro_segmentation", *data, *words]) == 2
    assert "every pixel of the training split is ignored: 2 masks with nothing but 255" in capsys.readouterr().err

    small_model("segmentation").save(tmp_path / "model")
    recipe = {"task": {"name": "segmentation", "classes": ["ground", "sky"], "width": 16}}
    values = {
        "augment": {"crop_size": [64, 64]},
        "optimizer": {"lr": 1e-3, "weight_decay": 1e-3},
        "training": {"batch_size": 2, "steps": 1},
    }
    (tmp_path / "model/recipe.json").write_text(json.dumps({**recipe, **values}))
    assert main(["evaluate", str(tmp_path / "model"), *data]) == 2
    assert "every pixel of the validation split is ignored" in capsys.readouterr().err
