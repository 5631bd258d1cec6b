"""Several processes measure what one does, to the last digit; forked ones, which start at once."""

import multiprocessing
import os
from itertools import product

import pytest

from metaprompts.cli import main
from metaprompts.errors import InputError
from metaprompts.tasks import TASKS
from metaprompts.utils import model_workers
from slow import slow_except
from small import SMALL

SETTINGS = {
    "segmentation": ["--test.flip", "true"],
    "depth": ["--test.num_windows", "2"],
    "pose": ["--test.oks_nms", "0.9"],
}


@pytest.fixture(autouse=True)
def _forked(monkeypatch):
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr(model_workers.multiprocessing, "get_context", lambda kind: fork)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def words_of(command, task, data):
    sized = ["--data.root", str(data), "--training.val_batch_size", "1"]
    return [command, f"micro-{task}", *sized, *(SETTINGS[task] if command == "evaluate" else ())]


@pytest.mark.parametrize(
    ("command", "task"), slow_except(product(("evaluate", "heatmaps"), SMALL), ("evaluate", "depth"))
)
def test_workers_write_the_bytes_of_one_process(command, task, home, data):
    for workers in ("1", "2"):
        assert main([*words_of(command, task, data), "--workers", workers, "--out", workers]) == 0
    found = contents(home.parent / "here/2")
    assert found == contents(home.parent / "here/1")
    assert {"evaluate": "metrics.json", "heatmaps": "responses.json"}[command] in found


def test_every_task_is_tested():
    assert set(SETTINGS) | {"normals"} == set(TASKS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "micro-depth", "--data.root", "{data}", "--workers", "2"], "give --workers or use torchrun"),
        (["heatmaps", "micro-depth", "a.png", "--workers", "2", "--out", "x"], "--workers applies only to a data set"),
    ],
)
def test_errors_are_one_line(words, message, home, data, monkeypatch, capsys):
    for name, value in {"WORLD_SIZE": 2, "RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    assert main([word.format(data=data) for word in words]) == 2
    assert message in capsys.readouterr().err


def _end():
    os._exit(9)


def test_a_killed_worker_is_one_line():
    with pytest.raises(InputError, match=r"a worker process was killed: .* run the same command again to resume"):
        list(model_workers.in_model_workers(_end, [(), ()], 2))
