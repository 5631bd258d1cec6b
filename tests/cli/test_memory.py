import json
import re

import pytest

from metaprompts.cli import main
from metaprompts.errors import InputError

SMALL = [
    *("--refinement.steps", "1", "--task.crop_height", "64", "--task.crop_width", "64", "--task.filters", "8"),
    *("--prompts.count", "4"),
]


def test_a_table_says_what_it_was_computed_for(capsys):
    words = ["--batch-size", "2", "--precision", "bf16", "--checkpointing", "true", "--trainable", "prompts"]
    assert main(["memory", "micro_pose", *SMALL, *words]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "micro_pose: peak memory of a training step, computed" in shown
    assert "2 images of 64x64 per pass, 8 passes per step; bf16, with checkpointing" in shown
    assert "trained: prompts, 0.4 of 4.4 M parameters; backbone: micro" in shown
    assert "weight copies" in shown
    assert "average" not in shown
    assert re.search(r"a step computes 0\.00\d+ TFLOP: 1,000 steps take \S+ hours on a GPU that sustains 100", shown)


@pytest.mark.slow
def test_json_adds_up(capsys):
    assert main(["memory", "micro_pose", *SMALL, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out).values()
    parts = dict(found["peak"])
    assert parts.pop("total") == sum(parts.values()) > 0
    assert (found["images"], found["passes"]) == (16, 1)
    assert found["flops"] > 10**9
    assert parts["moments"] == 8 * found["trained"]


def test_short_forms_mean_recipe_keys(monkeypatch):
    read = []

    def stop(name, overrides):
        read.append((name, overrides))
        raise InputError("enough")

    monkeypatch.setattr("metaprompts.recipes.loader.read_recipe", stop)
    assert main(["memory", "nyu", "kitti", "--batch-size", "4", "--task.max_depth_m", "8", "--precision=bf16"]) == 2
    short = ("--training.micro_batch_size=4", "--training.precision=bf16", "--training.init_from=none")
    assert read == [("nyu", ("--task.max_depth_m=8", *short))]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Missing argument 'RECIPE...'"),
        (["--batch-size", "2"], "Missing argument 'RECIPE...'"),
        (["nothing"], "no recipe 'nothing'"),
        (["micro_depth", "--batch-size", "many"], "training.micro_batch_size is 'many'"),
        (["micro_depth", "--batch-size", "3"], "not a multiple of training.micro_batch_size 3"),
        (["micro_depth", "--batch-size"], "Option '--batch-size' requires an argument; see metaprompts memory --help"),
        (["micro_depth", "--precision", "fp8"], "'fp8' is not one of 'fp32', 'bf16', 'fp16'"),
        (["micro_depth", "--processes", "0"], "'--processes': 0 is not in the range 1<=x"),
        (["nyu", "--processes", "5"], "cannot be split over 5 processes"),
        (["micro_depth", "--backbone.source", "random:huge"], "no architecture named 'huge'"),
        (["micro_depth", "--trainig.seed", "1"], "Did you mean '--training.seed'?"),
    ],
)
def test_bad_words_are_one_line(words, said, capsys):
    assert main(["memory", *words]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.slow
def test_passes_may_be_smaller_than_the_groups_that_share_a_loss(capsys):
    """NYU's recipe shares losses among three images, and a single one was refused."""
    assert main(["memory", "nyu", "--batch-size", "1", "--trainable", "lora", "--refinement.steps", "1", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out).values()
    assert (found["images"], found["passes"]) == (1, 24)
