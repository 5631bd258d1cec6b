import json
import re
import shutil
from dataclasses import fields

import pytest

from metaprompts.cli import main
from metaprompts.tasks import TASKS
from slow import slow_except
from small import SMALL

TESTS = {
    "segmentation": ["--test.window", "64", "--test.stride", "48", "--test.scales", "0.5,1,1.5", "--test.flip", "true"],
    "depth": ["--test.num_windows", "2", "--test.flip", "true", "--test.crop", "garg"],
    "pose": ["--test.flip", "true", "--test.oks_nms", "0.9"],
}


@pytest.mark.parametrize("task", slow_except(SMALL, "pose"))
def test_an_embedded_model_is_evaluated_by_name_and_left_alone(task, home, data, capsys):
    before = sorted(home.rglob("*"))
    words = ["evaluate", f"micro-{task}", "--data.root", str(data), *TESTS[task], "--worst", "1"]
    assert main(words) == 0
    out, _ = capsys.readouterr()
    scores = json.loads((home.parent / f"here/evaluation-micro-{task}/metrics.json").read_text())
    assert {"segmentation": "mIoU", "depth": "rmse", "pose": "AP"}[task] in scores
    for name, value in scores.items():
        if isinstance(value, float) and not name.startswith("images"):
            assert f"{value:.4f}" in out
    assert len((home.parent / f"here/evaluation-micro-{task}/per_image.jsonl").read_text().splitlines()) == 4
    assert sorted(home.rglob("*")) == before
    written = {path.name for path in (home.parent / f"here/evaluation-micro-{task}").iterdir()}
    confusion = {"confusion.json", "confusion.csv", "confusion.png"} if task == "segmentation" else set()
    assert written == {"metrics.json", "per_image.jsonl", "evaluation.json", "worst.jpg", *confusion}
    assert main(words) == 0
    assert capsys.readouterr().out == out


@pytest.mark.slow
def test_old_recipes_without_a_test_section_are_evaluated_plainly(home, data):
    path = home / "micro-depth/recipe.json"
    content = json.loads(path.read_text())
    del content["test"]
    path.write_text(json.dumps(content))
    assert main(["evaluate", "micro-depth", "--data.root", str(data), "--out=plain"]) == 0
    what = json.loads((home.parent / "here/plain/evaluation.json").read_text())
    assert what["test"] == {"flip": False, "num_windows": None, "crop": None, "kitti_crop": False}


@pytest.mark.slow
def test_bad_words_are_refused_in_one_line(home, data, capsys):
    root = ["--data.root", str(data)]
    for words, message in {
        ("micro-depth", *root, "--test.num_windows", "1"): "test.num_windows is 1; expected 2 to 1024",
        ("micro-depth", *root, "--test.scales", "1"): "unknown key test.scales",
        ("micro-depth", *root, "--out"): "Option '--out' requires an argument",
        ("nowhere", *root): "give a model folder that training wrote, or --recipe RECIPE",
        ("micro-depth", *root, "--recipe", "micro_pose"): "micro-depth predicts depth, but the recipe is for pose",
        ("micro-depth", *root, "--task.max_depth_m", "3"): "but the recipe has 3.0: use the recipe that trained it",
        ("micro-depth", *root, "--refinement.steps=7"): "and only training can change it to 7: omit it",
        ("micro-depth", *root, "--data.image-size", "0,0"): "data.image_size is 0,0; expected 8 to 65536",
        ("micro-segmentation", *root, "--test.scales", "1e20"): "expected more than 0 to 16",
        ("micro-segmentation", *root, "--worst", "-1"): "'--worst': -1 is not in the range 0<=x<=100",
        ("micro-depth", *root, "--data.val", "none"): "data.val is none, so there is no validation split",
    }.items():
        assert main(["evaluate", *words]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


@pytest.mark.slow
def test_a_bad_image_is_one_line_with_worker_processes_too(home, data, tmp_path, capsys):
    """A worker's error came with its traceback in the one line."""
    root = tmp_path / "copy"
    shutil.copytree(data, root)
    (root / "images/002.png").write_text("no image")
    for workers in ("0", "1"):
        words = ["--data.root", str(root), "--data.num_workers", workers, "--resume", "never"]
        assert main(["evaluate", "micro-depth", *words]) == 2
        error = capsys.readouterr().err
        assert f"error: image {root}/images/002.png is not an image" in error
        assert "Traceback" not in error


@pytest.mark.slow
def test_a_broken_environment_is_one_line(home, data, capsys, monkeypatch):
    words = ["evaluate", "micro-depth", "--data.root", str(data)]
    monkeypatch.setenv("WORLD_SIZE", "x")
    assert main(words) == 2
    assert "the environment has WORLD_SIZE='x'" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert main(words) == 2
    assert "WORLD_SIZE=2, but no MASTER_ADDR, no MASTER_PORT: start with torchrun" in capsys.readouterr().err


@pytest.mark.slow
def test_a_flag_of_the_protocol_may_stand_alone(home, data):
    words = ["micro-depth", "--data.root", str(data), "--test.flip", "--test.crop", "garg", "--out", "flipped"]
    assert main(["evaluate", *words]) == 0
    what = json.loads((home.parent / "here/flipped/evaluation.json").read_text())
    assert what["test"] == {"flip": True, "num_windows": None, "crop": "garg", "kitti_crop": False}


@pytest.mark.slow
def test_an_evaluation_that_goes_on_says_so_and_knows_its_data_from_another_folder(home, data, capsys, monkeypatch):
    words = ["evaluate", "micro-depth", "--out", str(home.parent / "out"), "--data.root"]
    assert main([*words, str(data)]) == 0
    monkeypatch.chdir(data.parent)
    capsys.readouterr()
    assert main([*words, data.name]) == 0
    assert "evaluating: 4 of 4 already done; pass --resume never to discard them" in capsys.readouterr().err


@pytest.mark.parametrize("task", SMALL)
def test_help_of_a_model_lists_every_key_of_its_protocol_with_its_default(task, capsys):
    assert main(["evaluate", f"micro-{task}", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for field in fields(TASKS[task].protocol):
        default = field.default[0] if isinstance(field.default, tuple) else field.default
        shown_default = "none" if default is None else default
        assert re.search(rf"--test\.{field.name} \S+ .*?default: {shown_default}\]", shown)


@pytest.mark.slow
def test_engines_agree_and_are_not_mixed(models, data, tmp_path, capsys):
    """An interrupted evaluation goes on with the same engine only."""
    words = ["evaluate", str(models / "depth"), "--recipe", "micro_depth", "--data.root", str(data)]
    words += ["--data.train", "depth.txt", "--data.val", "depth.txt", "--data.num_workers", "0", "--out", str(tmp_path)]
    scores = []
    for engine in ("plain", "eager"):
        assert main([*words, "--engine", engine, "--resume", "never"]) == 0
        scores.append(json.loads((tmp_path / "metrics.json").read_text()))

    assert scores[0] == pytest.approx(scores[1], rel=1e-4)
    assert "engine: eager, fp32" in capsys.readouterr().err
    assert json.loads((tmp_path / "evaluation.json").read_text())["engine"] == "eager"
    assert main([*words, "--engine", "gpu"]) == 2
    assert "'gpu' is not one of 'plain', 'auto', 'eager', 'compile', 'openvino', 'onnx'" in capsys.readouterr().err


def test_an_embedded_model_needs_no_masks_of_the_sky():
    """evaluate micro-depth on images without such masks: data.sky labels does not exist."""
    from metaprompts.embedded import embedded_folder

    data = json.loads((embedded_folder("micro-depth") / "recipe.json").read_text())["data"]
    assert (data["sky"], data["sky_class"]) == (None, None)
