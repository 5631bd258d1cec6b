"""The whole demonstration, with models that have learned nothing."""

import re
import shlex
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from metaprompts import embedded
from metaprompts.cli import main
from metaprompts.demo import demo
from metaprompts.recipes.loader import read_recipe
from metaprompts.training.build_model import build_model
from metaprompts.utils.files import write_json
from small import tiny_backbone

SMALLER = {
    "segmentation": ["--task.width=16", "--prompts.count=8", "--data.image_size=64,64"],
    "depth": ["--task.filters=4", "--task.width=8", "--prompts.count=8", "--data.image_size=64,64"],
    "pose": ["--task.filters=8", "--task.crop_height=64", "--task.crop_width=64", "--prompts.count=8"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedded")
    torch.manual_seed(0)
    shutil.copytree(tiny_backbone(), folder / "micro")
    for task, words in SMALLER.items():
        recipe = read_recipe(f"scenes_{task}", [*words, f"--backbone.source={tiny_backbone()}"])
        build_model(recipe).save(folder / f"micro-{task}")
        write_json(folder / f"micro-{task}" / "recipe.json", recipe.to_dict())
    return folder


@pytest.mark.slow
def test_demo_writes_a_report(home, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(embedded, "_home", lambda: home)
    monkeypatch.chdir(tmp_path)
    words = ["demo", "--scenes", "8", "--training-scenes", "8", "--live-seconds", "1", "--seed", "3000100"]
    assert main(words) == 0
    said = capsys.readouterr()
    report = tmp_path / "metaprompts-demo" / "report.html"
    assert f"report: {report}" in said.out
    for stage in (
        "rendering 16 scenes",
        "scoring segmentation",
        "visualizing the prompts of pose",
        "fine-tuning depth",
        "trained ",
    ):
        assert stage in said.err
    page = report.read_text()
    assert page.endswith("</html>\n")
    for shown in ("mIoU", "pck@0.2", "rmse", "prompt ", " prefers ", "scene 0", "Fine-tuning while you wait"):
        assert shown in page
    assert page.count("data:image/png;base64,") > 30
    assert not re.search(r"https?://", page)
    # Steps that only the last one's loss trained are not shown.
    assert "after step" not in page
    # Four images side by side; below each its classes, depth and people, each with its name.
    overview = np.asarray(Image.open(report.parent / "overview.png"))
    down, remainder = divmod(overview.shape[0] - 8, 4)
    assert (remainder, overview.shape[1]) == (0, 4 * (384 + 8) + 8)
    for row in range(8, 4 * down, down):
        assert overview[row : row + 256, 8:392].std() > 1
        assert overview[row + 256 : row + down - 8, 8:392].std() > 1


def test_the_next_commands_are_complete():
    """They trained without initial weights and named no list of images, unlike the README."""
    train = [shlex.split(command.replace("\\\n", " ")) for _, command in demo._COMMANDS if " train " in command]
    assert len(train) == 2
    for words in train:
        assert {"--data.root", "--data.train", "--data.val"} <= set(words)
        assert main([*words[1:], "--help"]) == 0
    assert train[0][train[0].index("--training.init_from") + 1] == "micro-segmentation"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--scenes", "2"], "scenes is 2; expected at least 8"),
        (["--live-seconds", "nan"], "Invalid value for '--live-seconds': nan is not a finite number"),
        (["--seed", "-1"], "Invalid value for '--seed': -1 is not in the range 0<=x"),
    ],
)
def test_wrong_sizes_are_refused(more, said, tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "demo"), *more]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_a_folder_of_other_scenes_is_left_alone(home, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(embedded, "_home", lambda: home)
    folder = tmp_path / "scenes-3000000-256-64"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_quick_is_the_smallest_demo(tmp_path, monkeypatch, capsys):
    """--quick sets the three sizes; a size given beside it is an error, not ignored."""
    runs = []
    monkeypatch.setattr("metaprompts.demo.demo.run_demo", lambda settings: runs.append(settings) or tmp_path)
    assert main(["demo", "--quick"]) == 0
    assert (runs[0].scenes, runs[0].training_scenes, runs[0].live_seconds) == (8, 16, 5.0)
    assert main(["demo", "--quick", "--scenes", "9"]) == 2
    assert "--quick and --scenes contradict each other; give only one" in capsys.readouterr().err
    assert len(runs) == 1
