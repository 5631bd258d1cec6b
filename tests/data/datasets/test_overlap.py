"""Images that are several samples, under one name or several."""

import copy
import json

import numpy as np
import pytest
from PIL import Image

from metaprompts.cli import main
from metaprompts.data.datasets.held_out import describe_overlap, warn_of_overlap
from metaprompts.data.io.coco_annotations import parse_images
from metaprompts.data.io.list_files import read_pairs
from metaprompts.errors import InputError
from metaprompts.tasks import Segmentation
from metaprompts.utils.schema import convert


class Paths:
    def __init__(self, *paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def path(self, index):
        return str(self.paths[index])


@pytest.fixture
def root(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(3):
        Image.fromarray(np.full((64, 64, 3), number, np.uint8)).save(tmp_path / f"images/{number}.png")
        Image.fromarray(np.full((64, 64), number % 2, np.uint8)).save(tmp_path / f"mask{number}.png")
    (tmp_path / "link").symlink_to(tmp_path / "images")
    return tmp_path


def test_the_same_images_under_other_names(root, monkeypatch):
    monkeypatch.chdir(root)
    training = Paths("images/0.png", "images/1.png", "images/1.png")
    spellings = ("./images/0.png", "link/1.png", root / "images/../images/1.png", "images/2.png")
    line = describe_overlap([training], [Paths(*spellings)])
    assert line.startswith("2 of 3 validation images are also training images (the first: ./images/0.png)")
    assert describe_overlap([training], [Paths("images/2.png")]) is None


def test_training_warns(caplog):
    """With the same list for training and validation the score was perfect, without a word."""
    samples = Paths("a.png")
    warn_of_overlap({"training": samples, "validation": copy.copy(samples)})
    assert "1 of 1 validation image" in caplog.text
    caplog.clear()
    warn_of_overlap({"training": samples})
    assert not caplog.text


def test_data_check_warns(root, capsys):
    (root / "train.txt").write_text("images/0.png mask0.png\nimages/1.png mask1.png\n")
    (root / "val.txt").write_text("./images/0.png mask0.png\nimages/2.png mask2.png\n")
    words = ("data", "check", "micro_segmentation", "--data.root", str(root), "--task.classes", "a,b", "--out", "none")
    assert main([*words, "--data.train", "train.txt", "--data.val", "val.txt"]) == 0
    assert "warning: 1 of 2 validation images are also training images" in capsys.readouterr().out


def test_one_mask_for_two_images(root, caplog):
    """A list that named one mask for two images was trained on without a word."""
    lines = ["images/0.png mask0.png", "images/1.png mask0.png", "images/2.png mask2.png", "images/2.png mask2.png"]
    (root / "list.txt").write_text("\n".join(lines))
    assert len(read_pairs(root / "list.txt", root)) == 4
    assert "list.txt: 1 line names the label file of another image" in caplog.text


@pytest.mark.parametrize("other", ["./0.png", "a/../0.png", ".//0.png"])
def test_one_file_as_two_images(other):
    """COCO images 0.png and ./0.png with two ids were two images."""
    entries = [{"id": 1, "file_name": "0.png"}, {"id": 2, "file_name": other}, {"id": 3, "file_name": "b/0.png"}]
    with pytest.raises(InputError, match=r"2 images have the file_name 0\.png"):
        parse_images(json.loads(json.dumps(entries)), "x.json")


@pytest.mark.parametrize("text", ["bg,,obj", ",bg,obj", "bg, ,obj"])
def test_empty_class_names(text):
    """--task.classes bg,,obj trained two classes without a word."""
    with pytest.raises(InputError, match=r"task.classes has an empty name, number [12] of 3"):
        Segmentation(classes=convert(tuple[str, ...], text, "task.classes"))
    with pytest.raises(InputError, match=r"x is ''; expected a whole number"):
        convert(tuple[int, ...], "1,,2", "x")
    assert convert(tuple[str, ...], "bg,obj,", "task.classes") == ("bg", "obj")
