"""What is the same for the options of all commands: home folders, empty and repeated values, numbers beyond all use."""

import click
import pytest

from metaprompts.cli import main
from metaprompts.cli.commands import command_line


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
        ("export", "micro-depth", "--format", "onnx", "--out", ""),
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
    assert "is empty: give a value, or omit it" in error
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
    assert f"error: Invalid value for '{named}': {'9' * 20} is not in the range" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_recipe_keys_given_twice(caplog):
    """--data.label_map 0=bg --data.label_map 1=obj mapped 1 alone, without a word."""
    from metaprompts.recipes.loader import read_recipe

    words = ["--data.root", "d", "--data.label_map", "0=bg", "--data.label-map=1=obj", "--task.classes", "bg,obj"]
    assert read_recipe("micro_segmentation", words).data.label_map == {"1": "obj"}
    assert "--data.label_map is given 2 times: the last value is used, 1=obj" in caplog.text


def test_options_given_twice(tmp_path, monkeypatch, caplog, capsys):
    """Of --out a --out b one was dropped without a word; options that may be repeated are not reported."""
    monkeypatch.chdir(tmp_path)
    words = ["predict", "micro-depth", "a.png", "--out", "x", "--batch-size", "2", "--batch_size", "3"]
    assert main([*words, "--adapter", "a", "--adapter", "b"]) == 2
    assert "cannot read a: No such file" in capsys.readouterr().err
    assert [record.getMessage() for record in caplog.records] == [
        "--batch-size is given 2 times: the last value is used, 3"
    ]


def test_keys_given_twice_on_the_command_line(caplog, capsys):
    words = ["train", "micro_depth", "--training.steps", "2", "--training.steps=3", "--data.root", "/nowhere"]
    assert main(words) == 2
    assert "/nowhere is not a folder" in capsys.readouterr().err
    assert "--training.steps is given 2 times: the last value is used, 3" in caplog.text


@pytest.mark.parametrize("spelled", ["--test.flip", "--test.flip=true", "--test.flip true", "--data.num-workers 0"])
def test_spellings_of_keys(tmp_path, spelled, capsys):
    """A flag's value may be left out, and a key may be spelled with dashes."""
    assert main(["evaluate", "micro-depth", *spelled.split(), "--data.root", str(tmp_path / "none")]) == 2
    assert f"{tmp_path / 'none'} is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "Missing command; see metaprompts --help"),
        ("predcit m a", "No such command 'predcit'. Did you mean 'predict'?; see metaprompts --help"),
        ("data chekc", "No such command 'chekc'. Did you mean 'check'?; see metaprompts data --help"),
        ("predict", "Missing argument 'MODEL'; see metaprompts predict --help"),
        ("predict m a", "Missing option '--out'"),
        ("predict m a --out", "Option '--out' requires an argument"),
        ("predict m a --out o --steps x", "Invalid value for '--steps': 'x' is neither a number nor auto"),
        ("predict m a --out o --batch-size 0", "Invalid value for '--batch-size': 0 is not in the range"),
        ("predict m a --out o --min-score nan", "Invalid value for '--min-score': nan is not a finite number"),
        ("predict m a --out o --engine foo", "'foo' is not one of 'auto', 'plain', 'eager'"),
        (
            "predict m a --out o --otu x",
            "No such option '--otu'. Did you mean '--out'?; see metaprompts predict --help",
        ),
        ("scenes --layout nyu --out x --count 1.5", "Invalid value for '--count': '1.5' is not a valid integer"),
        ("heatmaps m a --out o --level 7x", "'7x' is not one of '0', '1', '2', '3', 'mean'"),
        ("export m --out o --format onnx --size a b", "Invalid value for '--size': 'a' is not a valid integer"),
        ("evaluate micro-depth --worst 101", "Invalid value for '--worst': 101 is not in the range 0<=x<=100"),
        ("submit micro-depth kity --images a --out b", "'kity' is not one of 'cityscapes', 'ade20k', 'kitti', 'coco'"),
        ("train", "Missing argument 'RECIPE'; see metaprompts train --help"),
        ("train micro_depth --resume", "Option '--resume' requires an argument"),
        ("train micro_depth --resum auto", "No such option '--resum'. Did you mean '--resume'?"),
        ("train micro_depth --trainabel lora", "'--trainabel'. Did you mean '--trainable'?"),
        ("train micro_depth --lr 1", "No such option '--lr'. Did you mean '--optimizer.lr'?"),
        ("train micro_depth --batch-size=4", "No such option '--batch-size'. Did you mean '--training.batch_size'?"),
        ("train micro_depth --optimizer.learning_rate 1", "'--optimizer.lr'"),
        ("train micro_depth --optimiser.lr 1", "'--optimizer.lr'"),
        ("train micro_depth --training.ema 0.9", "'--training.ema_decay'"),
        ("train micro_depth --data.root", "Option '--data.root' requires an argument"),
        ("app --models m", "No such option '--models': give MODEL without an option name"),
        ("predict --model m a --out o", "No such option '--model': give MODEL without an option name"),
        ("memory micro_depth --precison bf16", "No such option '--precison'. Did you mean '--precision'?"),
        ("pretrain --out x --vae.step 1", "No such option '--vae.step'."),
        ("pretrain --out x --vae.steps -1", "vae.steps is -1; expected 1 to 1000000000"),
    ],
)
def test_bad_words_are_one_line(words, expected, capsys):
    """The message of the library, in one line, with what to look at."""
    assert main(words.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert expected in printed.err
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("command", ["predict", "heatmaps", "evaluate", "export"])
def test_help_names_the_embedded_models(command, capsys):
    assert main([command, "--help"]) == 0
    # Help may be wrapped after a hyphen.
    printed = "".join(capsys.readouterr().out.split())
    assert "micro-depth,micro-pose,micro-segmentation" in printed


def test_paths_are_named_in_the_help():
    """demo --help said --out PATH where the other commands say DIR."""
    unnamed, context = [], click.Context(group := command_line())
    for name in set(group.list_commands(context)) - {"data"}:
        command = group.get_command(context, name)
        of_command = click.Context(command, obj=["--help"])
        paths = [param for param in command.get_params(of_command) if isinstance(param.type, click.Path)]
        unnamed += [f"{name} {param.opts[0]}" for param in paths if not param.metavar]
    assert not unnamed


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("predict", "by default the images to predict"),
        ("label", "by default the images to label"),
        ("evaluate", "by default images of the validation split"),
        ("bench", "by default generated scenes"),
        ("heatmaps", "With --data.root: recipe that describes how to read the data"),
    ],
)
def test_options_that_mean_something_else_in_each_command(command, expected, capsys):
    """--calibration had one text for all commands, and heatmaps' --recipe did not say that it needs a data set."""
    assert main([command, "--help"]) == 0
    assert expected in " ".join(capsys.readouterr().out.split())


def test_every_command_is_listed(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert "  train            Train on your own images\n" in printed
    assert "  import-released  Convert a checkpoint" in printed


def test_help_of_a_recipe_lists_its_keys_with_its_values(capsys):
    assert main(["train", "nyu", "--help"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "--task.max_depth_m FLOAT largest depth that the head can predict, in meters [here: 10.0]" in printed
    assert "--training.steps INTEGER" in printed
    # Keys of other tasks are not of this recipe.
    assert "--task.classes" not in printed
