"""What a shell is offered, by calling the completer as bash and zsh do."""

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
