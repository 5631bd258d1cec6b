import subprocess
import sys

import pytest

from metaprompts.cli import main


def code_of(*words):
    try:
        return main(["distill-encoder", *words])
    except SystemExit as error:
        return error.code


def test_help_explains_every_option(capsys):
    assert code_of("--help") == 0
    text = capsys.readouterr().out
    for option in ("MODEL", "--out", "--data", "--steps", "--width", "--batch-size", "--learning-rate", "--threads"):
        assert option in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("micro",), "--out"),
        (("micro", "--out", "x", "--width", "0"), "width is 0; wanted at least 1"),
        (("micro", "--out", "x", "--steps", "0"), "steps is 0; wanted 1 or more"),
        (("micro", "--out", "x", "--crop", "8"), "crop is 8; wanted at least 32"),
        (("micro", "--out", "x", "--resume", "maybe"), "--resume"),
        (("nothing", "--out", "x"), "no backbone at nothing"),
        (("micro", "--out", "x", "--data", "missing"), "missing holds 0 pictures"),
    ],
)
def test_wrong_words_end_with_2(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    assert code_of(*words) == 2

    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told


def test_an_encoder_of_an_embedded_models_vae_is_made(tmp_path, capsys):
    few = ["--steps", "2", "--scenes", "2", "--held-out", "1", "--crop", "64", "--batch-size", "1", "--width", "8"]

    assert code_of("micro-pose", "--out", str(tmp_path), "--device", "cpu", *few) == 0

    assert f"finished: {tmp_path}" in capsys.readouterr().out
    for name in ("encoder.json", "encoder.safetensors", "report.json"):
        assert (tmp_path / name).is_file()


def test_the_command_comes_without_pytorch():
    line = "import sys, metaprompts.cli.distill_encoder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", line], check=False).returncode == 0
