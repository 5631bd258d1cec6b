import json
import shutil

import pytest

from cli.test_train import LISTS
from metaprompts import embedded
from metaprompts.cli import main
from metaprompts.recipe import read_recipe
from small import SMALL

TESTS = {
    "segmentation": ["--test.windows", "64,48", "--test.scales", "0.5,1,1.5", "--test.flip", "true"],
    "depth": ["--test.windows", "2", "--test.flip", "true", "--test.crop", "garg"],
    "pose": ["--test.flip", "true", "--test.oks_nms", "0.9"],
}


@pytest.fixture
def home(models, tmp_path, monkeypatch):
    """A package folder whose embedded models are the small ones."""
    for task in SMALL:
        shutil.copytree(models / task, tmp_path / f"home/micro-{task}")
        sized = [] if task == "pose" else ["--data.image_size", "64,64", "--augment.crop", "64,64"]
        recipe = read_recipe(f"micro_{task}", [*SMALL[task], *sized, *LISTS[task], "--training.device", "cpu"])
        (tmp_path / f"home/micro-{task}/recipe.json").write_text(json.dumps(recipe.plain()))
    monkeypatch.setattr(embedded, "_home", lambda: tmp_path / "home")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


@pytest.mark.parametrize("task", list(SMALL))
def test_an_embedded_model_is_evaluated_by_name_and_left_alone(task, home, data, capsys):
    before = sorted(home.rglob("*"))
    words = ["evaluate", f"micro-{task}", "--data.root", str(data), *TESTS[task]]
    assert main(words) == 0
    out, _ = capsys.readouterr()
    scores = json.loads((home.parent / f"here/evaluation-micro-{task}/metrics.json").read_text())
    assert {"segmentation": "mIoU", "depth": "rmse", "pose": "AP"}[task] in scores
    for name, value in scores.items():
        if isinstance(value, float) and not name.startswith("images"):
            assert f"{value:.4f}" in out
    assert len((home.parent / f"here/evaluation-micro-{task}/per_image.jsonl").read_text().splitlines()) == 4
    assert sorted(home.rglob("*")) == before
    assert main(words) == 0
    assert capsys.readouterr().out == out


def test_old_recipes_without_a_test_section_are_evaluated_plainly(home, data):
    path = home / "micro-depth/recipe.json"
    content = json.loads(path.read_text())
    del content["test"]
    path.write_text(json.dumps(content))
    assert main(["evaluate", "micro-depth", "--data.root", str(data), "--out=plain"]) == 0
    what = json.loads((home.parent / "here/plain/evaluation.json").read_text())
    assert what["test"] == {"flip": False, "windows": None, "crop": None, "kitti_crop": False}


def test_bad_words_are_refused_in_one_line(home, data, capsys):
    root = ["--data.root", str(data)]
    for words, message in {
        ("micro-depth", *root, "--test.windows", "1"): "test.windows is 1; wanted at least 2",
        ("micro-depth", *root, "--test.scales", "1"): "unknown key test.scales",
        ("micro-depth", *root, "--out"): "--out has no value",
        ("nowhere", *root): "give a model folder that training wrote, or --recipe RECIPE",
        ("micro-depth", *root, "--recipe", "micro_pose"): "micro-depth predicts depth, the recipe is of pose",
    }.items():
        assert main(["evaluate", *words]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
