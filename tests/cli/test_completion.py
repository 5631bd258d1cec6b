"""What a shell is offered, by calling the completer as bash and zsh do."""

import shutil
import subprocess
import sys

import pytest

from metaprompts.cli import main


def completed(monkeypatch, capsys, shell, *words):
    """The completions of the last word."""
    monkeypatch.setenv("_METAPROMPTS_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(["metaprompts", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    # zsh gets type, name and help on lines of their own.
    return lines[1::3] if shell == "zsh" else [line.partition(",")[2] for line in lines]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("pre",), {"predict", "pretrain"}),
        (("data", "s"), {"shard"}),
        (("predict", "micro-"), {"micro-depth", "micro-pose", "micro-segmentation"}),
        (("evaluate", "micro-p"), {"micro-pose"}),
        (("train", "scenes_"), {"scenes_depth", "scenes_pose", "scenes_segmentation"}),
        (("predict", "micro-depth", "a.png", "--merge"), {"--merge-tokens"}),
        (("predict", "micro-depth", "a.png", "--precision", "b"), {"bf16"}),
        (("train", "nyu", "--training.ear"), {"--training.early_stopping"}),
        (("train", "nyu", "--task."), {"--task.upsample", "--task.max_depth_m", "--task.min_depth_m"}),
        (("train", "nyu", "--training.trainable", "l"), {"lora"}),
        (("evaluate", "micro-pose", "--test.oks"), {"--test.oks_nms"}),
        (("pretrain", "--vae.equal"), {"--vae.equal_channels"}),
    ],
)
def test_completion(monkeypatch, capsys, shell, words, expected):
    assert expected <= set(completed(monkeypatch, capsys, shell, *words))


def test_only_keys_of_the_recipe_are_offered(monkeypatch, capsys):
    assert completed(monkeypatch, capsys, "bash", "train", "nyu", "--task.classes") == [""]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_script_for_the_shell(monkeypatch, capsys, shell):
    monkeypatch.setenv("_METAPROMPTS_COMPLETE", f"{shell}_source")
    assert main([]) == 0
    assert f"_METAPROMPTS_COMPLETE={shell}_complete" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "expected"), [(["train", "micro_d"], "micro_depth"), (["predict", "micro-d"], "micro-depth")]
)
def test_bash_itself_offers_names(words, expected):
    """Names came before the offer of files, at which click's script for bash discards them."""
    program = f"{sys.executable} -m metaprompts"
    line = f"""
        metaprompts() {{ {program} "$@"; }}
        eval "$(_METAPROMPTS_COMPLETE=bash_source {program} | sed 's|bash_complete $1|bash_complete {program}|')"
        COMP_WORDS=(metaprompts {" ".join(words)}); COMP_CWORD={len(words)}
        _metaprompts_completion metaprompts; echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.stdout.split() == [expected], done.stderr
