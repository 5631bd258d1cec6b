import json
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from metaprompts.ablation import runs
from metaprompts.ablation import study as studies
from metaprompts.cli import ablate, main

STUDY = """
title = "Steps"
seeds = [1]

[[variants]]
name = "two"

[[variants]]
name = "wild"
settings = { "optimizer.lr" = 1000.0, "optimizer.max_grad_norm" = "none" }

[[cells]]
name = "depth"
recipe = "micro_depth"
data = "images"
metric = "d1"
[cells.settings]
"backbone.source" = "random:micro"
"data.train" = "depth.txt"
"data.val" = "depth.txt"
"data.image_size" = [64, 64]
"data.num_workers" = 0
"augment.crop_size" = [64, 64]
"task.filters" = 4
"task.width" = 8
"prompts.count" = 4
"refinement.steps" = 1
"training.batch_size" = 2
"training.report_to" = "none"
"training.steps" = 3
"schedule.warmup_steps" = 0
"""


@pytest.fixture
def study(tmp_path):
    (tmp_path / "study.toml").write_text(STUDY)
    return str(tmp_path / "study.toml")


@pytest.mark.slow
def test_trains_once_keeps_what_failed_and_shows_a_table(study, data, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["ablate", study, "--out", str(out), "--data", f"images={data}", "--processes", "2"]
    assert main(words) == 0
    text, said = capsys.readouterr()
    assert "study  depth/wild/1  d1 diverged: error: the loss is no longer finite" in said
    assert "| depth | d1 ↑ | two | 1 |" in text
    assert "(1 diverged)" in text
    assert (out / "study/table.md").read_text() + "\n" == text
    assert np.ptp(np.asarray(Image.open(out / "study/table.png"))) > 200
    results = {path.stem: json.loads(path.read_text()) for path in (out / "study/results").iterdir()}
    assert sorted(results) == ["depth--two--1", "depth--wild--1"]
    kept = results["depth--two--1"]
    assert (kept["seed"], kept["steps"], kept["settings"]["optimizer.lr"]) == (1, 3, 0.001)
    assert kept["seconds"] > 0
    assert set(kept["versions"]) == {"metaprompts", "torch"}
    assert "no longer finite" in results["depth--wild--1"]["failed"]
    assert results["depth--wild--1"]["diverged"]
    assert str(tmp_path) not in json.dumps(results)
    (folder,) = (out / "runs").glob(f"*{kept['training']}")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert kept["scores"]["d1"] == metrics["validations"][-1]["d1"]

    # Nothing is trained again.
    kept["scores"]["d1"] = 0.125
    (out / "study/results/depth--two--1.json").write_text(json.dumps(kept))
    assert main(words) == 0
    assert "study  depth/two/1  d1 0.1250" in capsys.readouterr().err
    assert main(["ablate", study, "--out", str(out), "--show"]) == 0
    assert "| 1 | 0.125 |" in capsys.readouterr().out


@pytest.fixture
def trained(monkeypatch):
    """Runs that take no time; the runs that were trained."""
    done = []

    class Ended:
        returncode = 0

        def poll(self):
            return 0

    def start(run, out, folders):
        done.append((run, folders[run.cell.data]))
        return Ended()

    def outcome(run, folder, returned):
        marks = {"quick": True} if run.quick else {}
        scores = {"d1": 0.25, "mIoU": 0.5, "AP": 0.1}
        return {"seed": run.seed, **marks, "command": run.command, "scores": scores}

    monkeypatch.setattr(runs, "_start", start)
    monkeypatch.setattr(runs, "_outcome", outcome)
    monkeypatch.setattr(runs, "_POLL_S", 0)
    return done


def test_a_check_of_chosen_runs_fails_for_a_changed_number(study, data, trained, tmp_path, capsys):
    words = ["ablate", study, "--out", str(tmp_path / "out"), "--data", f"images={data}"]
    assert main([*words, "--only", "depth/two/*"]) == 0
    assert [run.path for run, _ in trained] == ["depth/two/1"]
    assert main([*words, "--check"]) == 0
    assert "depth/two/1  d1 stored 0.2500, retrained 0.2500: the same" in capsys.readouterr().out
    path = tmp_path / "out/study/results/depth--two--1.json"
    changed = path.read_text().replace("0.25", "0.2515")
    path.write_text(changed)
    assert main([*words, "--check"]) == 1
    assert capsys.readouterr().out == "depth/two/1  d1 stored 0.2515, retrained 0.2500: DIFFERENT\n"
    assert path.read_text() == changed
    assert main([*words, "--only", "depth/two/1", "--again"]) == 0
    assert main([*words, "--check"]) == 0


def test_a_check_knows_divergences_and_reads_other_folders(study, data, trained, tmp_path, capsys):
    words = ["ablate", study, "--data", f"images={data}"]
    assert main([*words, "--out", str(tmp_path / "first")]) == 0
    kept = tmp_path / "kept/study"
    (tmp_path / "first/study/results").rename(tmp_path / "kept-results")
    kept.parent.mkdir()
    (tmp_path / "kept-results").rename(kept)
    path = kept / "depth--wild--1.json"
    result = json.loads(path.read_text())
    del result["scores"]
    path.write_text(json.dumps({**result, "failed": "x", "diverged": True}))
    capsys.readouterr()
    again = [*words, "--out", str(tmp_path / "out"), "--stored", str(kept.parent), "--check"]
    assert main(again) == 1
    assert capsys.readouterr().out.splitlines() == [
        "depth/two/1  d1 stored 0.2500, retrained 0.2500: the same",
        "depth/wild/1  d1 stored diverged, retrained 0.2500: DIFFERENT",
    ]
    path.write_text(json.dumps({**result, "training": "0123", "scores": {"d1": 0.25}}))
    assert main(again) == 2
    assert "was made with settings that differ" in capsys.readouterr().err


def test_a_failed_run_is_an_error_but_the_others_are_trained(study, data, trained, tmp_path, capsys, monkeypatch):
    outcome = runs._outcome
    failure = "run depth/two/1 failed (killed)"
    monkeypatch.setattr(
        runs, "_outcome", lambda run, *more: failure if run.variant.name == "two" else outcome(run, *more)
    )
    words = ["ablate", study, "--out", str(tmp_path / "out"), "--data", f"images={data}"]
    assert main(words) == 1
    text, said = capsys.readouterr()
    assert said == f"error: {failure}\n2/2  study  depth/wild/1  d1 0.2500\n"
    assert "1 of 2 runs have a result." in text
    assert main([*words, "--check"]) == 0
    monkeypatch.setattr(runs, "_outcome", lambda *_: failure)
    assert main([*words, "--check"]) == 1


def test_an_error_while_a_score_is_printed_ends_the_trainings(study, data, tmp_path, monkeypatch):
    """Those in progress went on alone, and the same command begun again met them in their folders."""
    processes = []

    def start(words, **settings):
        program = "import time; time.sleep(60)" if processes else ""
        processes.append(subprocess.Popen([sys.executable, "-c", program], **settings))
        return processes[-1]

    def complain(text):
        raise OSError("no terminal")

    monkeypatch.setattr(runs, "subprocess", SimpleNamespace(Popen=start, STDOUT=subprocess.STDOUT))
    monkeypatch.setattr(runs, "_outcome", lambda run, *_: {"seed": run.seed, "command": "", "scores": {"d1": 0.5}})
    monkeypatch.setattr(ablate, "complain", complain)
    words = ["ablate", study, "--out", str(tmp_path / "out"), "--data", f"images={data}", "--processes", "2"]
    assert main(words) != 0
    assert processes[1].returncode == -signal.SIGTERM


def test_results_are_shown_without_the_recipe(study, data, trained, tmp_path, capsys, monkeypatch):
    """A study trained from a folder that has its recipe could not be shown from another."""
    (tmp_path / "mine.toml").write_text('extends = "micro_depth"')
    path = tmp_path / "study.toml"
    path.write_text(STUDY.replace('"micro_depth"', '"mine.toml"'))
    monkeypatch.chdir(tmp_path)
    words = ["ablate", study, "--out", str(tmp_path / "out")]
    assert main([*words, "--data", f"images={data}"]) == 0
    table = capsys.readouterr().out
    (tmp_path / "mine.toml").unlink()
    assert main([*words, "--show"]) == 0
    shown, said = capsys.readouterr()
    assert shown == table
    assert said == "recipe mine.toml is missing: results are matched to this study only by their commands\n"
    assert main([*words, "--data", f"images={data}"]) == 2
    assert "no recipe 'mine.toml'" in capsys.readouterr().err
    path.write_text(path.read_text().replace("1000.0", "999.0"))
    assert main([*words, "--show"]) == 2
    assert "was made with settings that differ from those of study study" in capsys.readouterr().err


SCENES = """
title = "Scenes"
seeds = [1, 2]
variants = [{name = "a"}, {name = "b", settings = {"prompts.count" = 4}}]
scenes = {count = 12, val_count = 4, parts = [2, 6]}

[[cells]]
name = "few"
recipe = "scenes_segmentation"
data = "scenes"
metric = "mIoU"
settings = { "data.train" = "train_6.txt" }

[[cells]]
name = "more"
recipe = "scenes_segmentation"
data = "scenes"
metric = "mIoU"

[[cells]]
name = "people"
recipe = "scenes_pose"
data = "scenes"
metric = "AP"

[[cells]]
name = "real"
recipe = "micro_depth"
data = "camera"
metric = "d1"
"""


@pytest.mark.slow
def test_scenes_are_drawn_where_nobody_gives_them(trained, tmp_path, capsys):
    (tmp_path / "s.toml").write_text(SCENES)
    words = ["ablate", str(tmp_path / "s.toml"), "--out", str(tmp_path / "out"), "--skip-missing-data"]
    assert main(words) == 0
    assert "skipped: cell real of study s, which needs --data camera=DIR" in capsys.readouterr().err
    scenes = tmp_path / "out/data/scenes"
    assert {root for _, root in trained} == {scenes}
    assert len(trained) == 12
    whole = (scenes / "depth_train.txt").read_text().splitlines()
    assert (scenes / "depth_train_6.txt").read_text().splitlines() == whole[:6]
    assert (scenes / "val_2.txt").is_file()
    assert not (scenes / "val_6.txt").exists()
    people = json.loads((scenes / "annotations/person_keypoints_train_2.json").read_text())
    assert [image["file_name"] for image in people["images"]] == ["000001.png", "000002.png"]
    assert {person["image_id"] for person in people["annotations"]} <= {image["id"] for image in people["images"]}
    assert main(["ablate", str(tmp_path / "s.toml"), "--out", str(tmp_path / "out")]) == 2
    assert "needs data 'camera'" in capsys.readouterr().err


def test_a_quick_run_is_small_and_apart(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(studies, "_QUICK_SCENES", {"count": 6, "val_count": 2})
    (tmp_path / "s.toml").write_text(SCENES)
    out = tmp_path / "out"
    assert main(["ablate", str(tmp_path / "s.toml"), "--out", str(out), "--quick"]) == 0
    assert "the numbers are meaningless" in capsys.readouterr().out
    assert [run.path for run, _ in trained] == ["few/a/1", "few/b/1", "people/a/1", "people/b/1"]
    assert {run.settings["training.steps"] for run, _ in trained} == {2}
    assert len((out / "quick/data/scenes/train_6.txt").read_text().splitlines()) == 4
    assert [path.name for path in out.iterdir()] == ["quick"]
    # Moved among the others, they are refused.
    (out / "quick/s").rename(out / "s")
    assert main(["ablate", str(tmp_path / "s.toml"), "--out", str(out), "--show"]) == 2
    assert "need separate folders" in capsys.readouterr().err


@pytest.fixture
def hangup():
    """Say how SIGHUP is handled; afterwards it is handled as before, and SIGTERM, too."""
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    yield lambda handler: signal.signal(signal.SIGHUP, handler)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("handler", "code"), [(signal.SIG_DFL, 130), (signal.SIG_IGN, 0)], ids=["terminal", "nohup"])
def test_the_end_of_the_terminal_is_a_ctrl_c_but_not_to_nohup(
    study, data, tmp_path, monkeypatch, hangup, handler, code
):
    """The training that has begun is waited for, the other not begun."""
    program = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.kill(os.getppid(), signal.SIGHUP); "
        "time.sleep(0.3); print('done')"
    )

    def start(words, **settings):
        return subprocess.Popen([sys.executable, "-c", program], **settings)

    monkeypatch.setattr(runs, "subprocess", SimpleNamespace(Popen=start, STDOUT=subprocess.STDOUT))
    monkeypatch.setattr(runs, "_outcome", lambda run, *_: {"seed": run.seed, "command": "", "scores": {"d1": 0.25}})
    hangup(handler)
    out = tmp_path / "out"
    assert main(["ablate", study, "--out", str(out), "--data", f"images={data}"]) == code
    logs = [path.read_text() for path in out.glob("runs/*/log.txt")]
    assert logs == ["done\n"] * (2 if code == 0 else 1)


def test_a_plan_trains_nothing(study, trained, tmp_path, capsys):
    assert main(["ablate", study, "--out", str(tmp_path / "out"), "--plan"]) == 0
    said = capsys.readouterr().out
    assert "study: 2 runs, 0 done, 0 shared" in said
    assert "2 distinct runs in total" in said
    assert not trained
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "needs data 'images'"),
        (["--data", "images"], "expected NAME=DIR"),
        (["--data", "images=/nowhere"], "/nowhere is not a folder"),
        (["--processes", "0"], "'--processes': 0 is not in the range 1<=x"),
        (["--again"], "choose which with --only"),
        (["--stored", "results"], "--stored needs --check or --show"),
        (["--plan", "--show"], "are mutually exclusive: pass one of them"),
        (["--only", "depth/none/1"], "--only depth/none/1 matches no run"),
        (["--check", "--data", "images=."], "nothing to check"),
    ],
)
def test_wrong_words_are_refused(more, said, study, tmp_path, capsys):
    assert main(["ablate", study, "--out", str(tmp_path / "out"), *more]) == 2
    assert said in capsys.readouterr().err
    assert main(["ablate", "gone.toml", "--out", str(tmp_path / "out")]) == 2
    assert "cannot read gone.toml" in capsys.readouterr().err


def test_no_study_and_two_of_one_name_are_refused(study, tmp_path, capsys):
    assert main(["ablate"]) == 2
    assert "Missing argument 'STUDY...'" in capsys.readouterr().err
    assert main(["ablate", study, study]) == 2
    assert "two studies have the same name" in capsys.readouterr().err
