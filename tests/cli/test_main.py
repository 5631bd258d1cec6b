import re
import subprocess
import sys
from pathlib import Path

import pytest

from metaprompts import __version__
from metaprompts.cli import main


def run_fresh(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)


def test_import_is_light():
    heavy = ("torch", "diffusers", "cv2", "click")
    code = f"import metaprompts, sys; print([name for name in {heavy} if name in sys.modules])"
    assert run_fresh("-c", code).stdout.strip() == "[]"


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["predict", "--help"],
        ["export", "--help"],
        ["evaluate", "--help"],
        ["memory", "--help"],
        ["train", "nyu", "--help"],
        ["evaluate", "micro-segmentation", "--help"],
        ["train", "coco_pose", "--help"],
    ],
)
def test_help_does_not_import_torch(words):
    code = f"""
import sys
from metaprompts.cli import main
try:
    code = main({words})
except SystemExit as exit:
    code = exit.code
print(code or 0, 'torch' in sys.modules)
"""
    result = run_fresh("-c", code)
    assert result.stdout.splitlines()[-1] == "0 False"
    assert "Usage" in result.stdout


def test_public_names_resolve():
    import metaprompts

    assert all(getattr(metaprompts, name) is not None for name in metaprompts.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = metaprompts.nonsense


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"metaprompts {__version__}\n"


IMAGE = str(Path(__file__).parents[2] / "docs/pictures/demo.jpg")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["predict", "/nowhere/model", IMAGE, "--out", "o"], "no model at /nowhere/model"),
        (["predict", "/nowhere/model", "x.png", "--out", "o"], "image x.png does not exist"),
        (["train", "nothing"], "no recipe 'nothing'"),
        (["train", "micro_depth", "--training.steps", "many"], "training.steps is 'many'; expected a whole number"),
        (["train", "micro_depth"], "data.root is not set"),
        (["train", "micro_depth", "--data.root", "/nowhere"], "/nowhere is not a folder"),
        (["import-released", "/nowhere.pth", "--preset", "nyu", "--out", "o"], "/nowhere.pth"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_our_own_is_one_line_too(monkeypatch, capsys):
    monkeypatch.setattr("metaprompts.cli._run", lambda words: {}["what"])
    assert main(["predict"]) == 3
    said = capsys.readouterr().err
    assert re.fullmatch(
        r"error: KeyError: 'what', at metaprompts/cli/__init__\.py:\d+; this is a bug, please report it "
        r"\(--debug shows where\)\n",
        said,
    )
    with pytest.raises(KeyError):
        main(["predict", "--debug"])


def test_debug_shows_the_traceback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no recipe"):
        main(["train", "nothing", "--debug"])
