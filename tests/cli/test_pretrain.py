import subprocess
import sys

import pytest

from metaprompts.cli import main


def code_of(*words):
    try:
        return main(["pretrain", *words])
    except SystemExit as error:
        return error.code


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--out", "x", "--vae.steps", "0"),
        ("--out", "x", "--vae.stesp", "3"),
        ("--out", "x", "--stage", "unknown"),
        ("--out", "x", "--diffusion.lr", "fast"),
        ("--out", "x", "--architecture", "missing.json"),
        ("--out", "x", "--stage", "vae"),
        ("--out", "x", "--stage", "export"),
    ],
)
def test_wrong_words_end_with_2(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert code_of(*words) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_scenes_are_drawn_and_found_again(tmp_path, capsys):
    words = ["--out", str(tmp_path), "--stage", "scenes", "--scenes.count", "2", "--vae.scenes", "1"]
    words += ["--scenes.held-out", "1", "--scenes.workers", "1", "--scenes.height", "64", "--scenes.width", "64"]
    for _ in range(2):
        assert code_of(*words) == 0
        assert f"finished: {tmp_path}" in capsys.readouterr().out
    assert len(list(tmp_path.glob("scenes/*/*.npy"))) == 2


def test_help_explains_every_stage(capsys):
    assert code_of("--help") == 0
    text = capsys.readouterr().out
    for option in ("--out", "--stage", "--threads", "--ignore-gates", "--vae.steps", "--diffusion.steps"):
        assert option in text


def test_the_command_comes_without_pytorch():
    line = "import sys, metaprompts.cli.pretrain; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", line], check=False).returncode == 0
