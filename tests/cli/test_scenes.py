import json
from typing import get_args

import pytest

from metaprompts.cli import main
from metaprompts.cli.scenes import Name
from metaprompts.synthetic.layouts import LAYOUTS

SMALL = ["--count", "3", "--height", "32", "--width", "48"]


def test_writes_and_goes_on(tmp_path, capsys):
    words = ["scenes", "--layout", "kitti", "--out", str(tmp_path / "new"), *SMALL, "--density", "0.9"]
    assert main(words) == 0
    assert main(words) == 0
    assert f"3 scenes in {tmp_path / 'new'}\n" in capsys.readouterr().out
    assert json.loads((tmp_path / "new/scenes.json").read_text())["density"] == 0.9
    assert len(list((tmp_path / "new/raw_data").rglob("*.png"))) == 3


def test_all_layouts_are_offered():
    assert get_args(Name) == (*LAYOUTS, "video")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--layout", "nyu", "--count", "1"], "count is 1"),
        (["--layout", "coco", "--density", "0.5"], "density is given"),
        (["--layout", "ade20k", "--workers", "0"], "'--workers': 0 is not in the range 1<=x"),
        (["--layout", "nyu", "--count", "3", "--height", "7"], "images are 7 x 640"),
    ],
)
def test_bad_values_are_one_line_and_exit_code_2(words, expected, tmp_path, capsys):
    assert main(["scenes", "--out", str(tmp_path / "new"), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert expected in error
    assert not (tmp_path / "new").exists()


def test_folder_of_something_else(tmp_path, capsys):
    (tmp_path / "photo.jpg").touch()
    assert main(["scenes", "--layout", "nyu", "--out", str(tmp_path), *SMALL]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_unknown_layout(tmp_path, capsys):
    assert main(["scenes", "--layout", "imagenet", "--out", str(tmp_path)]) == 2
    assert "imagenet" in capsys.readouterr().err
