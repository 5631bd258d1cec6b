"""What a run leaves behind, and which are trained."""

import dataclasses
import json
import signal
import time

import pytest

from ablation.made import study, write
from metaprompts.ablation import reproduce, runs
from metaprompts.ablation.reproduce import check_all
from metaprompts.ablation.results import read_results, results_folder, training_folder
from metaprompts.ablation.runs import Training, TrainingFailedError, _outcome, train_all, train_in_processes
from metaprompts.ablation.study import Cell, Run, Variant
from metaprompts.errors import InputError
from metaprompts.training.train_step import check_finite


@pytest.fixture
def run():
    return Run(cell=Cell(name="c", recipe="micro_depth", data="d", metric="d1"), variant=Variant(name="v"), seed=0)


class Program(Training):
    """Runs a program instead of a training."""

    def __init__(self, program, folder, result=lambda returned: {}):
        super().__init__(run=None, folder=folder, root=folder)
        object.__setattr__(self, "program", program)
        object.__setattr__(self, "returned", [])
        object.__setattr__(self, "_result", result)

    def start(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Training, "words", lambda _: ["-c", self.program])
            process = super().start()
        self.returned.append(process)
        return process

    def result(self, returned):
        return self._result(returned)

    @property
    def log(self):
        return (self.folder / "log.txt").read_text()

    def wait_for(self, word):
        while word not in self.log:
            time.sleep(0.01)


def fail(error):
    """A result that waits for nothing, and fails."""

    def result(returned):
        raise error

    return result


def test_an_error_ends_trainings_that_have_begun(tmp_path):
    """They went on alone for hours, and the same command begun again met them in their folders."""
    long = Program("import time; time.sleep(60)", tmp_path / "long")
    killed = Program("", tmp_path / "killed", fail(InputError("one was killed")))
    with pytest.raises(InputError, match="one was killed"):
        train_in_processes([long, killed], 2, lambda *_: None)
    assert [process.returncode for process in long.returned] == [-signal.SIGTERM]


def test_an_error_ends_it_though_others_have_not_begun(tmp_path):
    """It waited for ever for those that it had cancelled."""
    programs = [Program("", tmp_path, fail(InputError("killed"))) for _ in range(20)]
    with pytest.raises(InputError, match="killed"):
        train_in_processes(programs, 1, lambda *_: None)
    assert sum(len(program.returned) for program in programs) == 1


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


def test_a_training_is_asked_once_and_waited_for(tmp_path):
    """Ctrl-C reached it through its group and then by SIGTERM, and the second signal ends it before it has saved."""
    asked = Program(ASKED_ONCE, tmp_path / "asked")

    def interrupt(returned):
        asked.wait_for("True")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_in_processes([asked, Program("", tmp_path / "other", interrupt)], 2, lambda *_: None)
    assert asked.log.split() == ["True", "asked", "1"]


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
def test_a_second_ctrl_c_waits_for_no_training_to_save(tmp_path):
    """It was passed on in one moment of many: else it ended the telling, and the command waited as before."""
    saving = Program(SAVES_FOR_LONG, tmp_path / "saving")

    def interrupt(returned):
        saving.wait_for("begun")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_in_processes([saving, Program("", tmp_path / "other", interrupt)], 2, lambda *_: None)
    assert [process.returncode for process in saving.returned] == [-signal.SIGTERM]


def test_a_log_has_all_that_a_command_says(tmp_path):
    codes = []
    script = "import os, sys; print(os.environ['OMP_NUM_THREADS']); sys.exit('bad')"
    train_in_processes([Program(script, tmp_path, codes.append)], 1, lambda *_: None)
    assert codes == [1]
    assert sorted((tmp_path / "log.txt").read_text().split()) == ["1", "bad"]


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
    assert _outcome(run, tmp_path, 0) == {"scores": {"d1": 0.5}, "steps": 2, "seconds": 1.8}


def test_a_training_that_diverged_says_why_without_its_folder(run, tmp_path):
    (tmp_path / "log.txt").write_text(f"step 1\nerror: the loss is no longer finite; weights are in {tmp_path}\n")
    said = "error: the loss is no longer finite; weights are in OUT"
    assert _outcome(run, tmp_path, 2) == {"failed": said, "diverged": True}


def test_a_validation_that_is_not_finite_is_a_divergence(run, tmp_path):
    """JSON has null for it: the metric then seemed to be missing, and that ended the whole study."""
    finished(tmp_path, [{"step": 2, "d1": None}])
    found = _outcome(run, tmp_path, 0)
    assert found["diverged"]
    assert found["failed"] == "d1 of the last validation is no longer finite"


def test_wrong_input_is_no_result(run, tmp_path):
    """An image that was missing was stored as "failed" for ever."""
    (tmp_path / "log.txt").write_text("error: cannot read a.png: No such file or directory\n")
    with pytest.raises(InputError, match=r"^training c/v/0: cannot read a\.png: No such file"):
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
    with pytest.raises(TrainingFailedError, match=rf"training c/v/0 failed .*{said}.*see .*log\.txt"):
        _outcome(run, tmp_path, code)


def test_a_crash_does_not_stop_the_others(tmp_path):
    programs = [Program("", tmp_path) for _ in range(3)]
    programs.insert(1, Program("", tmp_path, fail(TrainingFailedError("one"))))
    done, failed = [], []
    train_in_processes(programs, 1, lambda program, result: done.append(programs.index(program)), failed.append)
    assert done == [0, 2, 3]
    assert [str(error) for error in failed] == ["one"]


@pytest.mark.parametrize("code", [-signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGTERM])
def test_a_training_that_was_stopped_has_not_failed(code, run, tmp_path):
    """Ctrl-C reaches the runs, too: each was then recorded as diverged, and never trained again."""
    with pytest.raises(InputError, match="c/v/0 was stopped by signal"):
        Training(run=run, folder=tmp_path, root=tmp_path).result(code)


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """Runs that take no time: their d1 is the number of prompts in hundredths; the runs that were trained."""
    done = []
    for name in ("train.txt", "val.txt"):
        (tmp_path / name).write_text("a.png b.png\n")
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()

    def train(trainings, processes, on_done, on_failed):
        for one in trainings:
            run = one.run
            done.append(run)
            one.folder.mkdir(parents=True, exist_ok=True)
            value = run.settings["prompts.count"] / 100 + run.seed
            marks = {"quick": True} if one.quick else {}
            scores = {"d1": value, "rmse": 1}
            result = {"seed": run.seed, **marks, "training": run.key, "command": run.command, "scores": scores}
            on_done(one, result)

    monkeypatch.setattr(runs, "train_in_processes", train)
    monkeypatch.setattr(reproduce, "train_in_processes", train)
    return done


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
        train_all(group, tmp_path, {"here": tmp_path}, processes=2, on_done=lambda *found: reported.append(found))
    assert len(trained) == len({run.key for run in trained}) == 6
    assert len(reported) == 8
    for one in studies:
        assert len(read_results(one, results_folder(tmp_path, one))) == 4
    first, second = (
        json.loads((tmp_path / path).read_text())
        for path in ("prompts/results/c--full--1.json", "steps/results/c--three--1.json")
    )
    assert (first["variant"], second["variant"]) == ("full", "three")
    assert {**first, "variant": ""} == {**second, "variant": ""}


def test_what_has_a_result_is_not_trained_again_but_where_asked_to(trained, tmp_path):
    studies = two_studies()[:1]
    train_all(studies, tmp_path, {"here": tmp_path})
    train_all(studies, tmp_path, {"here": tmp_path})
    assert len(trained) == 4
    (training_folder(tmp_path, trained[0]) / "old").touch()
    train_all(studies, tmp_path, {"here": tmp_path}, selects=lambda run: run.path == "c/full/0", again=True)
    assert [run.path for run in trained[4:]] == ["c/full/0"]
    assert not (training_folder(tmp_path, trained[0]) / "old").exists()


def test_what_is_trained_again_is_new_for_every_study_that_has_it(trained, tmp_path):
    """A run that had failed for want of disk space stayed failed in the other study."""
    prompts, steps = two_studies()
    train_all([prompts, steps], tmp_path, {"here": tmp_path})
    path = results_folder(tmp_path, steps) / "c--three--0.json"
    path.write_text(path.read_text().replace("0.32", "0.99"))
    train_all([prompts], tmp_path, {"here": tmp_path}, selects=lambda run: run.path == "c/full/0", again=True)
    assert not path.exists()
    train_all([steps], tmp_path, {"here": tmp_path})
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
        for run in one.runs()
    }


@pytest.mark.parametrize("change", [{"command": "metaprompts train other"}, {"training": "0123"}])
def test_a_result_of_other_settings_is_refused(change, trained, tmp_path):
    prompts = two_studies()[0]
    write(results_folder(tmp_path, prompts), {name: {**one, **change} for name, one in without_keys(prompts).items()})
    with pytest.raises(InputError, match="was made with settings that differ from those of study prompts"):
        train_all([prompts], tmp_path, {"here": tmp_path})
    assert not trained


def test_quick_results_are_never_taken_for_others(trained, tmp_path):
    prompts = two_studies()[0]
    quick = dataclasses.replace(prompts, quick=True)
    train_all([quick], tmp_path, {"here": tmp_path})
    with pytest.raises(InputError, match="comes from a quick run; quick and full runs need separate folders"):
        train_all([prompts], tmp_path, {"here": tmp_path})
    write(tmp_path / "real", without_keys(prompts))
    with pytest.raises(InputError, match="comes from a full run"):
        read_results(quick, tmp_path / "real")


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
        read_results(prompts, tmp_path)


def test_a_damaged_result_of_another_run_does_not_keep_from_forgetting(trained, tmp_path):
    prompts, steps = two_studies()
    train_all([prompts, steps], tmp_path, {"here": tmp_path})
    (results_folder(tmp_path, steps) / "c--once--0.json").write_text("[")
    train_all([prompts], tmp_path, {"here": tmp_path}, selects=lambda run: run.path == "c/full/0", again=True)
    assert len(trained) == 7


def test_failures_that_earlier_versions_stored_are_trained(trained, tmp_path):
    prompts = two_studies()[0]
    failed = [{**one, "failed": "error: no such image"} for one in without_keys(prompts).values()]
    for one in failed:
        del one["scores"]
    write(results_folder(tmp_path, prompts), dict(zip(without_keys(prompts), failed, strict=True)))
    assert read_results(prompts, results_folder(tmp_path, prompts)) == {}
    train_all([prompts], tmp_path, {"here": tmp_path})
    assert len(trained) == len(read_results(prompts, results_folder(tmp_path, prompts))) == 4


def test_numbers_of_other_settings_are_never_shown(trained, tmp_path):
    """--show, --check, --stored and scripts/tables.py took whatever had the name of a run."""
    prompts = two_studies()[0]
    train_all([prompts], tmp_path, {"here": tmp_path})
    changed = dataclasses.replace(prompts, variants=(Variant(name="full"), Variant(name="few")))
    with pytest.raises(
        InputError, match=r"c--few--0\.json was made with settings that differ from those of study prompts"
    ):
        read_results(changed, results_folder(tmp_path, changed))
    with pytest.raises(InputError, match="was made with settings that differ"):
        check_all([changed], tmp_path, {"here": tmp_path})


def test_missing_data_is_named_before_anything_is_trained(trained, tmp_path):
    prompts = two_studies()[0]
    with pytest.raises(InputError, match="cell c of study prompts needs data 'here': pass --data here=DIR"):
        train_all([prompts], tmp_path, {})
    cell = Cell(name="c", recipe="micro_depth", data="here", metric="d1", settings={"data.val": "gone.txt"})
    with pytest.raises(InputError, match=r"cell c of study t: .*gone\.txt"):
        train_all([study(name="t", cells=(cell,))], tmp_path, {"here": tmp_path})
    (tmp_path / "train.txt").unlink()
    with pytest.raises(InputError, match=r"cell c of study prompts: .*train\.txt"):
        train_all([prompts], tmp_path, {"here": tmp_path})
    assert not trained


def test_a_check_detects_a_changed_number_and_leaves_it(trained, tmp_path):
    prompts = two_studies()[0]
    roots = {"here": tmp_path}
    train_all([prompts], tmp_path, roots)
    assert [one.is_same for one in check_all([prompts], tmp_path, roots)] == [True] * 4
    path = results_folder(tmp_path, prompts) / "c--few--1.json"
    changed = json.loads(path.read_text())
    changed["scores"]["d1"] += 0.0015
    path.write_text(json.dumps(changed))
    found = check_all([prompts], tmp_path, roots, selects=lambda run: run.seed == 1)
    assert [str(one) for one in found] == [
        "c/full/1  d1 stored 1.3200, retrained 1.3200: the same",
        "c/few/1  d1 stored 1.0815, retrained 1.0800: DIFFERENT",
    ]
    assert json.loads(path.read_text()) == changed


def test_a_check_knows_divergences_and_reads_other_folders(trained, tmp_path):
    prompts = two_studies()[0]
    with pytest.raises(InputError, match="nothing to check"):
        check_all([prompts], tmp_path, {"here": tmp_path})
    key = prompts.runs()[0].key
    write(tmp_path / "kept/prompts", {"c--full--0": {"seed": 0, "failed": "x", "diverged": True, "training": key}})
    (found,) = check_all([prompts], tmp_path / "out", {"here": tmp_path}, stored=tmp_path / "kept")
    assert not found.is_same
    assert "stored diverged, retrained 0.3200" in str(found)
