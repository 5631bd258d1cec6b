"""What is the same for the options of all commands: home folders, empty and repeated values, numbers beyond all use."""

import pytest

from metaprompts.cli import main
from metaprompts.cli.overrides import take_options


@pytest.mark.parametrize("words", [("--out=~/zz",), ("--out", "~/zz"), ("--out", "~")])
def test_home_folder(tmp_path, monkeypatch, capsys, words):
    """--out=~/zz made a folder named ~ where the user was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert main(["scenes", "--count", "3", "--height", "64", "--width", "64", *words]) == 0
    assert f"scenes in {tmp_path}/home" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "micro-depth", "a.png", "--out", ""),
        ("predict", "micro-depth", "a.png", "--out="),
        ("heatmaps", "micro-depth", "a.png", "--out", ""),
        ("scenes", "--out", ""),
        ("bench", "--out", ""),
        ("export", "micro-depth", "--out", ""),
        ("evaluate", "micro-depth", "--out", ""),
        ("submit", "micro-depth", "kitti", "--images", "a", "--out="),
        ("data", "check", "micro_depth", "--out", ""),
        ("data", "shard", "micro_depth", "--out="),
        ("train", "micro_depth", "--training.output_dir", ""),
        ("train", "micro_depth", "--data.root="),
    ],
)
def test_empty_paths(tmp_path, monkeypatch, capsys, words):
    """--out '' wrote into the current folder."""
    monkeypatch.chdir(tmp_path)
    assert main([*words]) == 2
    error = capsys.readouterr().err
    assert "is empty: give a value" in error or "is ''; expected a path" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("predict", "micro-depth", "a.png", "--out", "o", "--batch-size", "9" * 20), "--batch-size"),
        (("predict", "micro-depth", "a.png", "--out", "o", "--steps", "9" * 20), "--steps"),
        (("heatmaps", "micro-depth", "a.png", "--out", "o", "--top", "9" * 20), "--top"),
        (("bench", "--rounds", "9" * 20), "--rounds"),
        (("bench", "--size", "64", "9" * 20), "--size"),
        (("scenes", "--out", "o", "--count", "9" * 20), "--count"),
        (("scenes", "--out", "o", "--seed", "9" * 20), "--seed"),
        (("memory", "micro_depth", "--processes", "9" * 20), "--processes"),
    ],
)
def test_numbers_beyond_all_use(tmp_path, monkeypatch, capsys, words, named):
    """predict --batch-size 99999999999999999999 ended with a ValueError of Python's, as a fault of ours."""
    monkeypatch.chdir(tmp_path)
    assert main([*words]) == 2
    assert f"error: {named} is {'9' * 20}; expected" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_options_given_twice(caplog):
    """Of --out a --out b the second was unknown, and of recipe keys the first was dropped without a word."""
    words = ["micro_depth", "--out", "a", "--data.root", "d", "--out=b"]
    assert take_options(words, ("--out",)) == {"--out": "b"}
    assert words == ["micro_depth", "--data.root", "d"]
    assert "--out is given more than once: the last one holds, b" in caplog.text


def test_recipe_keys_given_twice(caplog):
    """--data.label_map 0=bg --data.label_map 1=obj mapped 1 alone, without a word."""
    from metaprompts.recipes.loader import read_recipe

    words = ["--data.root", "d", "--data.label_map", "0=bg", "--data.label-map=1=obj", "--task.classes", "bg,obj"]
    assert read_recipe("micro_segmentation", words).data.label_map == {"1": "obj"}
    assert "--data.label_map is given 2 times: the last one holds, 1=obj" in caplog.text


def test_tyro_options_given_twice(tmp_path, caplog, capsys):
    words = ["predict", "micro-depth", "a.png", "--out", "x", "--batch-size", "0", "--batch_size", "-1"]
    assert main([*words, "--adapter", "a", "--adapter", "b"]) == 2
    assert "--batch-size is -1" in capsys.readouterr().err
    assert [record.getMessage() for record in caplog.records] == [
        "--batch-size is given more than once: the last one holds, -1"
    ]
