"""Tasks are found by name, also those of other packages, from training to export."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import metaprompts
from metaprompts import tasks
from metaprompts.cli import main
from metaprompts.engines.export.full_model import description
from metaprompts.errors import InputError
from metaprompts.tasks import TASKS, task_class
from small import tiny_backbone

RECIPE = """
[task]
name = "gray"
[prompts]
count = 4
[data]
image_size = [64, 64]
[augment]
crop_size = [64, 64]
[optimizer]
lr = 1e-2
weight_decay = 0.0
[training]
steps = 2
batch_size = 2
validate_every = 2
report_to = "none"
"""


def test_naming_the_tasks_imports_no_pytorch():
    code = "import sys; from metaprompts.tasks import TASKS; print(*TASKS); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[:4] == ["segmentation", "depth", "pose", "normals"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("depht", r"task.name is 'depht'; expected one of segmentation, depth, pose, normals: did you mean depth\?"),
        ("normal", r"did you mean normals\?"),
        ("flow", r"task.name is 'flow'; expected one of segmentation, depth, pose, normals$"),
        (None, r"task.name is None; expected one of"),
        (["depth"], r"task.name is \['depth'\]; expected one of"),
    ],
)
def test_an_unknown_name_is_one_line(name, message):
    with pytest.raises(InputError, match=message) as caught:
        task_class(name)
    assert "\n" not in str(caught.value)


@pytest.fixture
def brought(tmp_path, monkeypatch):
    """Write the module of a package that brings a task named flow."""

    def write(code, name="flow"):
        (tmp_path / "flow_task.py").write_text(code)
        (tmp_path / "flow_task-1.0.dist-info").mkdir()
        (tmp_path / "flow_task-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: flow-task\n")
        text = f"[metaprompts.tasks]\n{name} = flow_task:Flow\n"
        (tmp_path / "flow_task-1.0.dist-info/entry_points.txt").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        tasks._found.cache_clear()

    yield write
    tasks._found.cache_clear()
    sys.modules.pop("flow_task", None)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nothing_of_that_name", "task flow cannot be imported from flow_task:Flow: No module named"),
        ("x = 1", "task flow cannot be imported from flow_task:Flow: module 'flow_task' has no attribute 'Flow'"),
        ("class Flow: name = 'flow'", "flow_task:Flow is not a task named 'flow'"),
        ("from metaprompts.tasks import Depth as Flow", "flow_task:Flow is not a task named 'flow'"),
        ("assert 1 > 2", "task flow cannot be imported from flow_task:Flow: AssertionError"),
    ],
)
def test_a_package_that_brings_no_task_is_one_line(brought, code, message):
    brought(code)
    assert "flow" in TASKS
    with pytest.raises(InputError) as caught:
        task_class("flow")
    assert str(caught.value).startswith(message)
    assert task_class("depth").name == "depth"


def test_a_broken_package_leaves_the_other_tasks_alone(brought, caplog, capsys):
    """Every command imports all tasks, to know their keys: one broken package was an error of all of them."""
    brought("import nothing_of_that_name")
    assert main(["train", "micro_depth", "--help"]) == 0
    assert "--task.max_depth_m" in capsys.readouterr().out
    assert "task flow cannot be imported from flow_task:Flow" in caplog.text


def test_no_package_replaces_an_own_task(brought, caplog):
    brought("from metaprompts.tasks.depth import Depth as Flow", name="depth")
    assert TASKS["depth"].__module__ == "metaprompts.tasks.depth"
    assert "task depth of flow_task:Flow is not used: metaprompts has its own" in caplog.text


def test_a_task_of_another_package_is_trained_scored_predicted_and_described(outside, tmp_path, monkeypatch):
    """A task outside the package ended with "AssertionError: AssertionError", and could not be exported."""
    generator = np.random.default_rng(0)
    for number in range(4):
        pixels = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        Image.fromarray(pixels[..., 1]).save(tmp_path / f"gray{number}.png")
    (tmp_path / "train.txt").write_text("".join(f"{number}.png gray{number}.png\n" for number in range(4)))
    (tmp_path / "mine.toml").write_text(RECIPE)
    words = ["--data.root", str(tmp_path), "--data.val", "train.txt", "--backbone.source", tiny_backbone()]
    recipe, out = str(tmp_path / "mine.toml"), tmp_path / "run"
    image, best = str(tmp_path / "0.png"), str(out / "best")

    assert main(["data", "check", recipe, *words, "--out", str(tmp_path / "sheet.png")]) == 0
    assert main(["train", recipe, *words, "--training.output_dir", str(out)]) == 0
    assert main(["evaluate", best, "--data.root", str(tmp_path), "--out", str(tmp_path / "scores")]) == 0
    assert json.loads((tmp_path / "scores/metrics.json").read_text())["difference"] > 0
    assert main(["predict", best, image, "--out", str(tmp_path / "predicted")]) == 0
    assert (tmp_path / "predicted/0_gray.png").is_file()
    assert main(["heatmaps", best, image, "--out", str(tmp_path / "heatmaps")]) == 0

    model, size, processing = metaprompts.load(best), (64, 64), dict[str, object]()
    facts = json.loads(json.dumps(description(model, size)))
    exec(model.task.example_code(), processing)
    pixels = np.asarray(Image.open(image))
    with torch.no_grad():
        inputs = processing["network_inputs"](pixels, [], facts)
        outputs = [model(torch.from_numpy(each)).numpy()[0] for each in inputs]
    monkeypatch.chdir(tmp_path)
    assert processing["save_result"](outputs, pixels, [], facts) == "gray.png"
    found = np.asarray(Image.open("gray.png"), np.float32) / 255
    np.testing.assert_allclose(found, model.predict(image).gray.clip(0, 1), atol=0.01)
