"""What a training leaves behind."""

import json
import signal
import subprocess
from types import SimpleNamespace

import pytest

from metaprompts.ablation.runs import _outcome, _train
from metaprompts.ablation.study import Cell, Run, Variant
from metaprompts.errors import InputError


@pytest.fixture
def run():
    return Run(cell=Cell(name="c", recipe="r", data="d", metric="d1"), variant=Variant(name="v"), seed=0)


def test_the_last_validation_counts(run, tmp_path):
    validations = [{"step": 1, "d1": 0.9, "classes": {}}, {"step": 2, "d1": 0.5, "classes": {}}]
    (tmp_path / "metrics.json").write_text(json.dumps({"validations": validations}))
    assert _outcome(run, tmp_path, 0) == {"scores": {"d1": 0.5}}


def test_a_failed_training_says_why_without_its_folder(run, tmp_path):
    (tmp_path / "log.txt").write_text(f"step 1\nerror: the loss is no longer finite; weights are in {tmp_path}\n")
    assert _outcome(run, tmp_path, 2) == {"failed": "error: the loss is no longer finite; weights are in OUT"}
    (tmp_path / "log.txt").write_text("")
    assert _outcome(run, tmp_path, 3) == {"failed": "exit code 3"}


def test_an_unknown_metric_is_named(run, tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps({"validations": [{"step": 1, "rmse": 0.9}]}))
    with pytest.raises(InputError, match="wants metric 'd1'; there are rmse"):
        _outcome(run, tmp_path, 0)


@pytest.mark.parametrize("code", [-signal.SIGKILL, 128 + signal.SIGINT, 128 + signal.SIGTERM])
def test_a_training_that_was_stopped_has_not_failed(code, run, tmp_path, monkeypatch):
    """Ctrl-C reaches the trainings, too: each was then recorded as diverged, and never trained again."""
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=code))
    with pytest.raises(InputError, match="c--v--0 was ended by signal"):
        _train(run, tmp_path, tmp_path)
    assert not (tmp_path / "results").exists()
