"""Train what is not trained yet, several processes side by side; stopped at any time, the same call goes on."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from metaprompts.ablation.study import Run, Study
from metaprompts.errors import InputError
from metaprompts.files import read_json, write_json

# What is added to the number of the signal that a command has ended by.
_SIGNALED = 128


def results_folder(out: Path) -> Path:
    """Where a study's numbers are, one small file a training."""
    return out / "results"


def train_all(
    study: Study,
    out: Path,
    roots: Mapping[str, Path],
    *,
    processes: int = 1,
    on_done: Callable[[Run, dict[str, Any]], None] = lambda run, result: None,
) -> None:
    """Train every run that has no result.

    Each training is a process of its own with one thread. One that fails is recorded as such, and does not stop the
    others.

    Args:
        study: what to train
        out: gets results/ and runs/
        roots: folder of the pictures of each name that a cell's ``data`` may have
        processes: at the same time
        on_done: is told of every result, those found included

    Raises:
        InputError: a cell's data is nowhere
    """
    for cell in study.cells:
        if cell.data not in roots:
            raise InputError(f"cell {cell.name} needs data {cell.data!r}: say --data {cell.data}=DIR")
    waiting = []
    for run in study.runs():
        path = _result_path(out, run)
        if path.is_file():
            on_done(run, read_json(path))
        else:
            waiting.append(run)
    with ThreadPoolExecutor(processes) as pool:
        futures = {pool.submit(_train, run, out, roots[run.cell.data]): run for run in waiting}
        try:
            for future in as_completed(futures):
                on_done(futures[future], future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def read_results(study: Study, out: Path) -> dict[str, dict[str, Any]]:
    """The results there are, by the name of their run."""
    found = {run.name: _result_path(out, run) for run in study.runs()}
    return {name: read_json(path) for name, path in found.items() if path.is_file()}


def _result_path(out: Path, run: Run) -> Path:
    return results_folder(out) / f"{run.name}.json"


def _train(run: Run, out: Path, root: Path) -> dict[str, Any]:
    folder = out / "runs" / run.name
    folder.mkdir(parents=True, exist_ok=True)
    words = ["train", *run.words(root, folder)]
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        ended = subprocess.run(
            [sys.executable, "-m", "metaprompts", *words, "--resume", "auto"],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )
    # It may have been killed, or have stopped in good order and told so as a shell would.
    number = -ended.returncode if ended.returncode < 0 else ended.returncode - _SIGNALED
    if number in set(signal.Signals):
        raise InputError(f"training {run.name} was ended by signal {number}; the same command goes on with it")
    result = {
        "cell": run.cell.name,
        "variant": run.variant.name,
        "seed": run.seed,
        "command": shlex.join(["metaprompts", *_without_folders(words)]),
        "commit": _commit(),
        **_outcome(run, folder, ended.returncode),
    }
    write_json(_result_path(out, run), result)
    return result


def _outcome(run: Run, folder: Path, returned: int) -> dict[str, Any]:
    if returned:
        lines = (folder / "log.txt").read_text(encoding="utf-8").strip().splitlines()
        return {"failed": lines[-1].replace(str(folder), "OUT") if lines else f"exit code {returned}"}
    validations = read_json(folder / "metrics.json")["validations"]
    scores = {
        name: value for name, value in validations[-1].items() if isinstance(value, int | float) and name != "step"
    }
    if run.cell.metric not in scores:
        raise InputError(f"cell {run.cell.name} wants metric {run.cell.metric!r}; there are {', '.join(scores)}")
    return {"scores": scores}


def _without_folders(words: list[str]) -> list[str]:
    """The command as others can repeat it: folders differ from machine to machine."""
    named = {"--data.root": "DATA", "--training.out": "OUT"}
    return [f"{key}={named[key]}" if (key := word.partition("=")[0]) in named else word for word in words]


def _commit() -> str | None:
    """The version of the code, where it lies in a repository."""
    asked = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or None
