"""Results are not written into folders that are searched for data."""

import numpy as np
import pytest
from PIL import Image

from metaprompts.cli import main


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for number in range(2):
        for name, pixels in (("images", generator.integers(0, 255, (64, 64, 3))), ("depth", np.full((64, 64), 1500))):
            path = tmp_path / f"d/{name}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8 if name == "images" else np.uint16)).save(path)
    (tmp_path / "link").symlink_to(tmp_path / "d/images")
    return tmp_path


DATA = (
    *("--data.root", "d", "--data.train", "images", "--data.train_labels", "depth"),
    *("--data.val", "images", "--data.val_labels", "depth"),
)


@pytest.mark.parametrize(
    "words",
    [
        ("train", "micro_depth", *DATA, "--training.output_dir"),
        ("evaluate", "micro-depth", *DATA, "--out"),
        ("data", "shard", "micro_depth", *DATA, "--out"),
        ("data", "check", "micro_depth", *DATA, "--out"),
        ("distill-encoder", "x.safetensors", "--data", "d", "--out"),
        ("submit", "micro-depth", "kitti", "--images", "d", "--out"),
    ],
)
def test_every_command(root, capsys, words):
    """Curves and worst.jpg of a run in the image folder were images without a counterpart: --resume could not go on."""
    files = sorted(root.rglob("*"))
    assert main([*words, "link/run/x.png"]) == 2
    error = capsys.readouterr().err
    assert "output folder link/run" in error
    assert "lies in d" in error
    assert "which is searched for images and labels" in error
    assert sorted(root.rglob("*")) == files


@pytest.mark.parametrize("out", ["d/images", "d/images/run/deep", "d/depth/run"])
def test_every_folder(root, capsys, out):
    assert main(["data", "check", "micro_depth", *DATA, "--out", f"{out}/sheet.png"]) == 2
    assert f"output folder {out} lies in d/" in capsys.readouterr().err


def test_lists_are_not_searched(root, capsys):
    (root / "d/list.txt").write_text("images/0.png depth/0.png\n")
    words = ("data", "check", "micro_depth", "--data.root", "d", "--data.train", "list.txt", "--data.val", "none")
    assert main([*words, "--out", "d/images/sheet.png"]) == 0
    assert (root / "d/images/sheet.png").is_file()
