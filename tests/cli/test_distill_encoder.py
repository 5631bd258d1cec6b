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
    for option in ("MODEL", "--out", "--data", "--steps", "--width", "--batch-size", "--lr", "--threads"):
        assert option in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("micro",), "--out"),
        (("micro", "--out", "x", "--resume", "maybe"), "--resume"),
        (("nothing", "--out", "x"), "no backbone at nothing"),
        (("micro", "--out", "x", "--data", "missing"), "missing holds 0 images"),
    ],
)
def test_wrong_words_end_with_2(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    assert code_of(*words) == 2

    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--width", "0"), "width is 0; expected at least 1"),
        (("--steps", "-1"), "steps is -1; expected 1 to 1000000000"),
        (("--batch-size", "0"), "batch_size is 0; expected 1 to 1000000000"),
        (
            ("--lr", "nan"),
            "Invalid value for '--lr': nan is not a finite number; see metaprompts distill-encoder --help",
        ),
        (
            ("--max-grad-norm", "nan"),
            "Invalid value for '--max-grad-norm': nan is not a finite number; see metaprompts distill-encoder --help",
        ),
        (
            ("--decay-fraction", "nan"),
            "Invalid value for '--decay-fraction': nan is not a finite number; see metaprompts distill-encoder --help",
        ),
        (
            ("--checkpoint-seconds", "nan"),
            "Invalid value for '--checkpoint-seconds': nan is not a finite number; see metaprompts distill-encoder --help",  # noqa: E501
        ),
        (("--crop", "8"), "crop is 8; expected at least 32"),
        (("--threads", "0"), "threads is 0; expected at least 1"),
    ],
)
def test_numbers_that_make_no_sense_are_one_line(words, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    assert code_of("micro", "--out", "x", *words) == 2

    assert capsys.readouterr().err == f"error: {line}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_encoder_that_diverged_in_its_last_step_is_not_kept(tmp_path, capsys):
    few = ["--steps", "1", "--scenes", "2", "--held-out", "1", "--crop", "64", "--batch-size", "1", "--width", "8"]

    assert code_of("micro-pose", "--out", str(tmp_path), "--device", "cpu", "--lr", "1e30", *few) == 2

    assert "error: the encoder's latents are not finite: start over with" in capsys.readouterr().err
    assert not (tmp_path / "encoder.safetensors").exists()


def test_an_encoder_of_an_embedded_models_vae_is_made(tmp_path, capsys):
    few = ["--steps", "2", "--scenes", "2", "--held-out", "1", "--crop", "64", "--batch-size", "1", "--width", "8"]

    assert code_of("micro-pose", "--out", str(tmp_path), "--device", "cpu", *few) == 0

    assert f"finished: {tmp_path}" in capsys.readouterr().out
    for name in ("encoder.json", "encoder.safetensors", "report.json"):
        assert (tmp_path / name).is_file()


def test_the_command_comes_without_pytorch():
    line = "import sys, metaprompts.cli.distill_encoder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", line], check=False).returncode == 0
