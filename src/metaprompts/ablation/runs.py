"""Train what is not trained yet, several processes side by side; stopped at any time, the same call goes on."""

import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from metaprompts.ablation.results import Result, keep_result, result_paths, stored_result, training_folder
from metaprompts.ablation.study import Run, Study
from metaprompts.errors import InputError
from metaprompts.files import read_json
from metaprompts.training.step_log import read_lines

# What is added to the number of the signal that a command has ended by.
_SIGNALED = 128
_LOG = "log.txt"
# What is to be ended when this process is: trainings that go on alone would meet their own continuation.
_RUNNING: set[subprocess.Popen[bytes]] = set()

Roots = Mapping[str, Path]
"""Folder of the pictures of each name that a cell's ``data`` may have."""
Wanted = Callable[[Run], bool]
OnDone = Callable[[Study, Run, Result], None]
T = TypeVar("T")


@dataclass
class _Training:
    """One training, and all runs of studies that it is."""

    run: Run
    quick: bool
    runs: list[tuple[Study, Run]] = field(default_factory=list)


def train_all(
    studies: Sequence[Study],
    out: Path,
    roots: Roots,
    *,
    processes: int = 1,
    wanted: Wanted = lambda run: True,
    again: bool = False,
    on_done: OnDone = lambda study, run, result: None,
) -> None:
    """Train every run that has no result; runs of the same settings, data and seed are one training.

    Each training is a process of its own with one thread. One that fails is recorded as such, and does not stop the
    others.

    Args:
        studies: what to train, one after another
        out: gets STUDY/results/ and runs/
        roots: folders of pictures
        processes: at the same time
        wanted: which runs
        again: train them though they have a result, which is forgotten
        on_done: is told of every result, those found included

    Raises:
        InputError: a cell's data are nowhere, or a result is of other settings
    """
    pairs = [(study, run) for study in studies for run in study.runs() if wanted(run)]
    for study, run in pairs:
        refuse_missing_data(study, run, roots)
    if again:
        for study, run in pairs:
            _forget(study, run, out)
    waiting = _waiting(pairs, out, on_done)

    def finish(training: _Training, result: Result) -> None:
        for study, run in training.runs:
            on_done(study, run, keep_result(study, run, out, result))

    def train(training: _Training) -> Result:
        run = training.run
        return train_once(run, training_folder(out, run), roots[run.cell.data], quick=training.quick)

    side_by_side(train, waiting, processes, finish)


def side_by_side(
    work: Callable[[T], Result], items: Iterable[T], processes: int, on_done: Callable[[T, Result], None]
) -> None:
    """Work on several items at the same time; the first error ends it; trainings that have begun can go on later."""
    with ThreadPoolExecutor(processes) as pool:
        futures = {pool.submit(work, item): item for item in items}
        try:
            for future in as_completed(futures):
                on_done(futures[future], future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(_RUNNING):
                process.terminate()
            raise


def refuse_missing_data(study: Study, run: Run, roots: Roots) -> None:
    """Check that a run's pictures are there.

    Raises:
        InputError: the folder was not said, or lacks a file that the study names
    """
    cell = run.cell
    if cell.data not in roots:
        raise InputError(
            f"cell {cell.name} of study {study.name} needs data {cell.data!r}: say --data {cell.data}=DIR, or leave "
            "out such cells with --skip-missing-data"
        )
    for key in ("data.train", "data.val"):
        name = {**cell.settings, **run.variant.settings}.get(key)
        if name is not None and not (roots[cell.data] / str(name)).is_file():
            raise InputError(f"cell {cell.name} of study {study.name} wants {name} in {roots[cell.data]}: not there")


def train_once(run: Run, folder: Path, root: Path, *, quick: bool = False) -> Result:
    """Train one run in a process of its own, or go on with it.

    Args:
        run: what to train
        folder: of the training
        root: of the pictures
        quick: whether it only shows that it can be run

    Returns:
        what came of it

    Raises:
        InputError: it was ended by a signal, or knows no such metric
    """
    folder.mkdir(parents=True, exist_ok=True)
    words = ["-m", "metaprompts", "train", *run.words(root, folder), "--resume", "auto"]
    returned = run_logged([sys.executable, *words], folder / _LOG)
    # It may have been killed, or have stopped in good order and told so as a shell would.
    number = -returned if returned < 0 else returned - _SIGNALED
    if number in set(signal.Signals):
        raise InputError(f"training {run.path} was ended by signal {number}; the same command goes on with it")
    return {
        "seed": run.seed,
        **({"quick": True} if quick else {}),
        "training": run.key,
        "command": run.command,
        "commit": _commit(),
        "versions": _versions(),
        "settings": run.settings,
        **_outcome(run, folder, returned),
    }


def run_logged(command: Sequence[str], log: Path) -> int:
    """Run a command with one thread to its end; what it says goes into a file.

    Returns:
        its exit code, or minus the number of the signal that ended it
    """
    with log.open("w", encoding="utf-8") as file:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
        _RUNNING.add(process)
        try:
            return process.wait()
        finally:
            _RUNNING.discard(process)


def _waiting(pairs: Iterable[tuple[Study, Run]], out: Path, on_done: OnDone) -> list[_Training]:
    """What is to be trained; what is known already is kept for every run that it is the training of."""
    found = {}
    pairs = list(pairs)
    for study, run in pairs:
        result = stored_result(study, run, out)
        if result is not None:
            found[run.key] = result
    waiting: dict[str, _Training] = {}
    for study, run in pairs:
        if run.key in found:
            on_done(study, run, keep_result(study, run, out, found[run.key]))
        else:
            waiting.setdefault(run.key, _Training(run, study.quick)).runs.append((study, run))
    return list(waiting.values())


def _forget(study: Study, run: Run, out: Path) -> None:
    """Remove a training and its results, those of other studies that share it included."""
    shutil.rmtree(training_folder(out, run), ignore_errors=True)
    shared = [path for path in out.glob("*/results/*.json") if read_json(path).get("training") == run.key]
    for path in (*result_paths(study, run, out), *shared):
        path.unlink(missing_ok=True)


def _outcome(run: Run, folder: Path, returned: int) -> Result:
    if returned:
        lines = (folder / _LOG).read_text(encoding="utf-8").strip().splitlines()
        said = lines[-1].replace(str(folder), "OUT") if lines else f"exit code {returned}"
        return {"failed": said, "diverged": "no longer finite" in said}
    last = read_json(folder / "metrics.json")["validations"][-1]
    facts = {"steps": last.pop("step"), "seconds": _seconds(folder)}
    if run.cell.metric not in last:
        raise InputError(f"cell {run.cell.name} wants metric {run.cell.metric!r}; there are {', '.join(last)}")
    value = last[run.cell.metric]
    # JSON has no NaN: what was not finite is null there.
    if value is None or not math.isfinite(value):
        return {**facts, "failed": f"{run.cell.metric} of the last validation is no longer finite", "diverged": True}
    return {**facts, "scores": {name: value for name, value in last.items() if isinstance(value, int | float)}}


def _seconds(folder: Path) -> float:
    """Of all steps, however often the training was stopped."""
    return round(math.fsum(line.get("seconds", 0.0) for line in read_lines(folder / "log.jsonl")), 1)


def _versions() -> dict[str, str]:
    import torch

    from metaprompts import __version__

    return {"metaprompts": __version__, "torch": torch.__version__}


def _commit() -> str | None:
    """The version of the code, where it lies in a repository; "-dirty" where files are changed."""
    asked = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or None
