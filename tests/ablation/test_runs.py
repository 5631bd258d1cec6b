"""What a run leaves behind, and which are trained."""

import dataclasses
import json
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from types import SimpleNamespace

import pytest

from ablation.made import study, write
from metaprompts.ablation import runs
from metaprompts.ablation.results import read_results, training_folder
from metaprompts.ablation.runs import _outcome, train_all
from metaprompts.ablation.study import Cell, Run, Variant
from metaprompts.errors import InputError
from metaprompts.training.train_step import check_finite


@pytest.fixture
def run():
    return Run(cell=Cell(name="c", recipe="micro_depth", data="d", metric="d1"), variant=Variant(name="v"), seed=0)


class Programs:
    """Runs programs instead of trainings; the number of a program is its run's seed."""

    def __init__(self, monkeypatch, folder):
        self._patch, self._folder = monkeypatch, folder
        self.processes = []

    def train(self, programs, processes, outcome):
        """The outcomes, which ``outcome`` gets from the number of a program and its exit code, in their order."""
        cell = Cell(name="c", recipe="micro_depth", data="d", metric="d1")
        made = study(cells=(cell,), variants=(Variant(name="v"),), seeds=tuple(range(len(programs))))

        def start(words, **settings):
            seed = next(int(word.partition("=")[2]) for word in words if word.startswith("--training.seed="))
            self.processes.append(subprocess.Popen([sys.executable, "-c", programs[seed]], **settings))
            return self.processes[-1]

        self._runs = made.runs
        self._patch.setattr(runs, "subprocess", SimpleNamespace(Popen=start, STDOUT=subprocess.STDOUT))
        self._patch.setattr(runs, "_check_data_exists", lambda *_: None)
        self._patch.setattr(runs, "_outcome", lambda run, folder, returned: outcome(run.seed, returned))
        with closing(train_all(made.runs, self._folder, {"d": self._folder}, processes=processes)) as ended:
            return [(run.seed, found) for run, found in ended]

    def log(self, number):
        return (training_folder(self._folder, self._runs[number]) / "log.txt").read_text()

    def wait_for(self, number, word):
        while word not in self.log(number):
            time.sleep(0.01)


@pytest.fixture
def programs(monkeypatch, tmp_path):
    return Programs(monkeypatch, tmp_path)


def score_of(number):
    return {"seed": number, "command": "", "scores": {"d1": 0.5}}


def test_an_error_ends_trainings_that_have_begun(programs):
    """They went on alone for hours, and the same command begun again met them in their folders."""

    def outcome(number, returned):
        raise InputError(f"{number} was killed")

    with pytest.raises(InputError, match="1 was killed"):
        programs.train(["import time; time.sleep(60)", ""], 2, outcome)
    assert [process.returncode for process in programs.processes] == [-signal.SIGTERM, 0]


def test_an_error_ends_it_though_others_have_not_begun(programs):
    """It waited for ever for those that it had cancelled."""

    def outcome(number, returned):
        raise InputError("killed")

    with pytest.raises(InputError, match="killed"):
        programs.train([""] * 20, 1, outcome)
    assert len(programs.processes) == 1


ASKED_ONCE = """
import os, signal, sys, time
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
print(os.getsid(0) == os.getpid(), flush=True)
while not asked:
    time.sleep(0.01)
time.sleep(0.5)
print("asked", len(asked))
"""


def test_a_training_is_asked_once_and_waited_for(programs):
    """Ctrl-C reached it through its group and then by SIGTERM, and the second signal ends it before it has saved."""

    def interrupt(number, returned):
        programs.wait_for(0, "True")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        programs.train([ASKED_ONCE, ""], 2, interrupt)
    assert programs.log(0).split() == ["True", "asked", "1"]


SAVES_FOR_LONG = """
import os, signal, time
def save(*_):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    print("saving", flush=True)
    os.kill(os.getppid(), signal.SIGINT)
signal.signal(signal.SIGTERM, save)
print("begun", flush=True)
time.sleep(20)
"""


@pytest.mark.usefixtures("interruptible")
def test_a_second_ctrl_c_waits_for_no_training_to_save(programs):
    """It was passed on in one moment of many: else it ended the telling, and the command waited as before."""

    def interrupt(number, returned):
        programs.wait_for(0, "begun")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        programs.train([SAVES_FOR_LONG, ""], 2, interrupt)
    assert programs.processes[0].returncode == -signal.SIGTERM


def test_a_log_has_all_that_a_command_says(programs):
    script = "import os, sys; print(os.environ['OMP_NUM_THREADS']); sys.exit('bad')"
    assert programs.train([script], 1, lambda number, returned: f"exit code {returned}") == [(0, "exit code 1")]
    assert sorted(programs.log(0).split()) == ["1", "bad"]


def test_the_training_loops_own_words_are_a_divergence(run, tmp_path):
    with pytest.raises(InputError) as error:
        check_finite({"total": float("nan")}, 3, "lower optimizer.lr")
    (tmp_path / "log.txt").write_text(f"error: {error.value}\n")
    assert _outcome(run, tmp_path, 2)["diverged"]


def finished(folder, validations):
    (folder / "metrics.json").write_text(json.dumps({"validations": validations}))


def test_the_last_validation_counts(run, tmp_path):
    finished(tmp_path, [{"step": 1, "d1": 0.9, "classes": {}}, {"step": 2, "d1": 0.5, "classes": {}}])
    (tmp_path / "log.jsonl").write_text(
        '{"step":1,"seconds":1.5}\n{"step":2,"seconds":0.25}\n{"step":2,"validation":{}}\n'
    )
    found = _outcome(run, tmp_path, 0)
    assert {name: found[name] for name in ("scores", "steps", "seconds")} == {
        "scores": {"d1": 0.5},
        "steps": 2,
        "seconds": 1.8,
    }


def test_a_training_that_diverged_says_why_without_its_folder(run, tmp_path):
    (tmp_path / "log.txt").write_text(f"step 1\nerror: the loss is no longer finite; weights are in {tmp_path}\n")
    said = "error: the loss is no longer finite; weights are in OUT"
    found = _outcome(run, tmp_path, 2)
    assert (found["failed"], found["diverged"]) == (said, True)
    assert "scores" not in found


def test_a_validation_that_is_not_finite_is_a_divergence(run, tmp_path):
    """JSON has null for it: the metric then seemed to be missing, and that ended the whole study."""
    finished(tmp_path, [{"step": 2, "d1": None}])
    found = _outcome(run, tmp_path, 0)
    assert found["diverged"]
    assert found["failed"] == "d1 of the last validation is no longer finite"


def test_wrong_input_is_no_result(run, tmp_path):
    """An image that was missing was stored as "failed" for ever."""
    (tmp_path / "log.txt").write_text("error: cannot read a.png: No such file or directory\n")
    with pytest.raises(InputError, match=r"^run c/v/0: cannot read a\.png: No such file"):
        _outcome(run, tmp_path, 2)


@pytest.mark.parametrize(
    ("log", "code", "said"),
    [
        ("step 3\nerror: OutOfMemoryError: 2 GiB (--debug shows where)", 2, "error: OutOfMemoryError: 2 GiB"),
        ("Traceback\nImportError: torch", 1, "ImportError: torch"),
        ("step 3", -signal.SIGKILL, "killed by signal 9, perhaps out of memory; .*step 3"),
        ("", 3, "exit code 3"),
    ],
)
def test_a_crash_is_no_result(log, code, said, run, tmp_path):
    (tmp_path / "log.txt").write_text(log)
    found = _outcome(run, tmp_path, code)
    assert re.fullmatch(rf"run c/v/0 failed .*{said}.*see .*log\.txt; run the same command again to retry", found)


def test_a_crash_does_not_stop_the_others(programs):
    found = programs.train([""] * 3, 1, lambda number, returned: "one" if number == 1 else score_of(number))
    assert [number for number, _ in found] == [0, 1, 2]
    assert [found[0][1]["scores"], found[1][1], found[2][1]["scores"]] == [{"d1": 0.5}, "one", {"d1": 0.5}]


@pytest.mark.parametrize("code", [-signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGTERM])
def test_a_training_that_was_stopped_has_not_failed(code, run, tmp_path):
    """Ctrl-C reaches the runs, too: each was then recorded as diverged, and never trained again."""
    with pytest.raises(InputError, match="c/v/0 was stopped by signal"):
        _outcome(run, tmp_path, code)


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """Runs that take no time: their d1 is the number of prompts in hundredths; the runs that were trained."""
    done = []
    for name in ("train.txt", "val.txt"):
        (tmp_path / name).write_text("a.png b.png\n")
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()

    class Ended:
        returncode = 0

        def poll(self):
            return 0

    def start(run, out, folders):
        done.append(run)
        training_folder(out, run).mkdir(parents=True, exist_ok=True)
        return Ended()

    def outcome(run, folder, returned):
        marks = {"quick": True} if run.quick else {}
        scores = {"d1": run.settings["prompts.count"] / 100 + run.seed, "rmse": 1}
        return {"seed": run.seed, **marks, "training": run.key, "command": run.command, "scores": scores}

    monkeypatch.setattr(runs, "_start", start)
    monkeypatch.setattr(runs, "_outcome", outcome)
    monkeypatch.setattr(runs, "_POLL_S", 0)
    return done


def train(studies, out, folders=None, path=None, **settings):
    """Train the runs of studies, or only that of a path."""
    chosen = [run for one in studies for run in one.runs if path in (None, run.path)]
    return list(train_all(chosen, out, {"here": out} if folders is None else folders, **settings))


def results_of(one, out):
    return read_results(one.runs, out / one.name / "results")


def two_studies():
    cell = Cell(name="c", recipe="micro_depth", data="here", metric="d1", settings={"refinement.steps": 3})
    few = Variant(name="few", settings={"prompts.count": 8})
    once = Variant(name="once", settings={"refinement.steps": 1})
    values = {"cells": (cell,), "seeds": (0, 1)}
    return [
        study(name="prompts", variants=(Variant(name="full"), few), **values),
        study(name="steps", variants=(Variant(name="three", settings={"refinement.steps": 3}), once), **values),
    ]


@pytest.mark.parametrize("together", [True, False], ids=["one command", "two commands"])
def test_a_training_of_two_studies_is_trained_once(together, trained, tmp_path):
    studies = two_studies()
    reported = []
    for group in [studies] if together else [[one] for one in studies]:
        reported += train(group, tmp_path, processes=2)
    assert len(trained) == len({run.key for run in trained}) == 6
    assert len(reported) == 8
    for one in studies:
        assert len(results_of(one, tmp_path)) == 4
    first, second = (
        json.loads((tmp_path / path).read_text())
        for path in ("prompts/results/c--full--1.json", "steps/results/c--three--1.json")
    )
    assert (first["variant"], second["variant"]) == ("full", "three")
    assert {**first, "variant": ""} == {**second, "variant": ""}


def test_what_has_a_result_is_not_trained_again_but_where_asked_to(trained, tmp_path):
    studies = two_studies()[:1]
    train(studies, tmp_path)
    train(studies, tmp_path)
    assert len(trained) == 4
    (training_folder(tmp_path, trained[0]) / "old").touch()
    train(studies, tmp_path, path="c/full/0", again=True)
    assert [run.path for run in trained[4:]] == ["c/full/0"]
    assert not (training_folder(tmp_path, trained[0]) / "old").exists()


def test_what_is_trained_again_is_new_for_every_study_that_has_it(trained, tmp_path):
    """A run that had failed for want of disk space stayed failed in the other study."""
    prompts, steps = two_studies()
    train([prompts, steps], tmp_path)
    path = (tmp_path / steps.name / "results") / "c--three--0.json"
    path.write_text(path.read_text().replace("0.32", "0.99"))
    train([prompts], tmp_path, path="c/full/0", again=True)
    assert not path.exists()
    train([steps], tmp_path)
    assert json.loads(path.read_text())["scores"]["d1"] == 0.32
    assert len(trained) == 7


def without_keys(one):
    """Results without the keys of their runs."""
    return {
        run.name: {
            "cell": run.cell.name,
            "variant": run.variant.name,
            "seed": run.seed,
            "command": run.command,
            "commit": "abc",
            "scores": {"d1": 0.25},
        }
        for run in one.runs
    }


@pytest.mark.parametrize("change", [{"command": "metaprompts train other"}, {"training": "0123"}])
def test_a_result_of_other_settings_is_refused(change, trained, tmp_path):
    prompts = two_studies()[0]
    write(
        (tmp_path / prompts.name / "results"), {name: {**one, **change} for name, one in without_keys(prompts).items()}
    )
    with pytest.raises(InputError, match="was made with settings that differ from those of study prompts"):
        train([prompts], tmp_path)
    assert not trained


def test_quick_results_are_never_taken_for_others(trained, tmp_path):
    prompts = two_studies()[0]
    quick = dataclasses.replace(prompts, quick=True)
    train([quick], tmp_path)
    with pytest.raises(InputError, match="comes from a quick run; quick and full runs need separate folders"):
        train([prompts], tmp_path)
    write(tmp_path / "real", without_keys(prompts))
    with pytest.raises(InputError, match="comes from a full run"):
        read_results(quick.runs, tmp_path / "real")


@pytest.mark.parametrize(
    "content",
    [
        *("[]", '{"seed": 0}', '{"seed": 0, "scores": {}, "failed": ""}', "{", '{"seed": 1, "scores": {}}'),
        *('{"seed": 0, "scores": []}', '{"seed": 0, "failed": 3}', '{"seed": 0, "scores": {"d1": "high"}}'),
        '{"seed": 0, "scores": {}, "versions": "1"}',
    ],
)
def test_a_damaged_result_is_refused_with_a_cure(content, tmp_path):
    """Some gave an error of Python's, the others did not say what to do."""
    prompts = two_studies()[0]
    (tmp_path / "c--full--0.json").write_text(content)
    cure = "remove it, and run the same command again to retrain$"
    with pytest.raises(InputError, match=rf"c--full--0\.json is not .*{cure}"):
        read_results(prompts.runs, tmp_path)


def test_a_damaged_result_of_another_run_does_not_keep_from_forgetting(trained, tmp_path):
    prompts, steps = two_studies()
    train([prompts, steps], tmp_path)
    ((tmp_path / steps.name / "results") / "c--once--0.json").write_text("[")
    train([prompts], tmp_path, path="c/full/0", again=True)
    assert len(trained) == 7


def test_failures_that_earlier_versions_stored_are_trained(trained, tmp_path):
    prompts = two_studies()[0]
    failed = [{**one, "failed": "error: no such image"} for one in without_keys(prompts).values()]
    for one in failed:
        del one["scores"]
    write((tmp_path / prompts.name / "results"), dict(zip(without_keys(prompts), failed, strict=True)))
    assert results_of(prompts, tmp_path) == {}
    train([prompts], tmp_path)
    assert len(trained) == len(results_of(prompts, tmp_path)) == 4


def test_numbers_of_other_settings_are_never_shown(trained, tmp_path):
    """--show, --check, --stored and scripts/tables.py took whatever had the name of a run."""
    prompts = two_studies()[0]
    train([prompts], tmp_path)
    changed = dataclasses.replace(prompts, variants=(Variant(name="full"), Variant(name="few")))
    with pytest.raises(
        InputError, match=r"c--few--0\.json was made with settings that differ from those of study prompts"
    ):
        results_of(changed, tmp_path)


def test_missing_data_is_named_before_anything_is_trained(trained, tmp_path):
    prompts = two_studies()[0]
    with pytest.raises(InputError, match="cell c of study prompts needs data 'here': pass --data here=DIR"):
        train([prompts], tmp_path, {})
    cell = Cell(name="c", recipe="micro_depth", data="here", metric="d1", settings={"data.val": "gone.txt"})
    with pytest.raises(InputError, match=r"cell c of study t: .*gone\.txt"):
        train([study(name="t", cells=(cell,))], tmp_path)
    (tmp_path / "train.txt").unlink()
    with pytest.raises(InputError, match=r"cell c of study prompts: .*train\.txt"):
        train([prompts], tmp_path)
    assert not trained
