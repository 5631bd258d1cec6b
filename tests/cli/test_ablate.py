import json

import pytest

from metaprompts.cli import main

STUDY = """
title = "Steps"
seeds = [1]

[[variants]]
name = "two"

[[variants]]
name = "wild"
settings = { "optimizer.lr" = 1e30, "optimizer.clip_norm" = "none" }

[[cells]]
name = "depth"
recipe = "micro_depth"
data = "pictures"
metric = "d1"
[cells.settings]
"backbone.source" = "random:micro"
"data.train" = "depth.txt"
"data.val" = "depth.txt"
"data.image_size" = [64, 64]
"data.workers" = 0
"augment.crop" = [64, 64]
"task.filters" = 4
"task.width" = 8
"prompts.count" = 4
"refinement.steps" = 1
"training.batch_size" = 2
"training.steps" = 3
"schedule.warmup_steps" = 0
"""


@pytest.fixture
def study(tmp_path):
    (tmp_path / "study.toml").write_text(STUDY)
    return str(tmp_path / "study.toml")


def test_trains_once_keeps_what_failed_and_shows_a_table(study, data, tmp_path, capsys):
    words = ["ablate", study, "--out", str(tmp_path / "out"), "--data", f"pictures={data}", "--processes", "2"]
    assert main(words) == 0
    table = capsys.readouterr().out
    assert "| depth | d1 ↑ |" in table
    assert "(1 diverged)" in table
    assert (tmp_path / "out/table.md").read_text() == f"# Steps\n\n{table}"
    results = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "out/results").iterdir()}
    assert sorted(results) == ["depth--two--1", "depth--wild--1"]
    assert results["depth--two--1"]["seed"] == 1
    assert "d1" in results["depth--two--1"]["scores"]
    assert "no longer finite" in results["depth--wild--1"]["failed"]
    assert str(tmp_path) not in json.dumps(results)
    metrics = json.loads((tmp_path / "out/runs/depth--two--1/metrics.json").read_text())
    assert results["depth--two--1"]["scores"]["d1"] == metrics["validations"][-1]["d1"]

    # Nothing is trained again: with the recipes' folder gone it would fail.
    changed = tmp_path / "out/results/depth--two--1.json"
    value = json.loads(changed.read_text())
    value["scores"]["d1"] = 0.125
    changed.write_text(json.dumps(value))
    assert main(words) == 0
    again = capsys.readouterr()
    assert "depth--two--1  d1 0.1250" in again.err
    assert json.loads(changed.read_text())["scores"]["d1"] == 0.125


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "needs data 'pictures'"),
        (["--data", "pictures"], "say NAME=DIR"),
        (["--data", "pictures=/nowhere"], "/nowhere is no folder"),
        (["--processes", "0"], "--processes is 0"),
    ],
)
def test_wrong_words_are_refused(more, said, study, tmp_path, capsys):
    assert main(["ablate", study, "--out", str(tmp_path / "out"), *more]) == 2
    assert said in capsys.readouterr().err
    assert main(["ablate", "gone.toml", "--out", str(tmp_path / "out")]) == 2
    assert "cannot read study gone.toml" in capsys.readouterr().err
