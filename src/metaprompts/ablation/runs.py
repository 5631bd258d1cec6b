"""Train missing runs in parallel processes; the same call resumes after an interruption."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from metaprompts import __version__
from metaprompts.ablation.results import (
    Result,
    forget_result,
    is_divergence,
    keep_result,
    paths_by_key,
    stored_result,
    training_folder,
)
from metaprompts.ablation.study import Run, Study
from metaprompts.errors import SHOWN_BY_DEBUG, InputError
from metaprompts.recipes.recipe import Recipe
from metaprompts.training.dataloaders import samples_of
from metaprompts.training.logger import read_lines
from metaprompts.utils.files import read_json
from metaprompts.utils.system import versions

# The exit code of the command line for bad input, and the offset of its exit codes for signals.
_BAD_INPUT, _SIGNALED = 2, 128
_LOG = "log.txt"
_POLL_S = 0.1
_SPLITS: tuple[Literal["train", "val"], ...] = ("train", "val")

Roots = Mapping[str, Path]
"""Image folder for each name in a cell's ``data``."""
RunFilter = Callable[[Run], bool]
OnDone = Callable[[Study, Run, Result], None]


class TrainingFailedError(Exception):
    """A run failed for a reason other than its input (for example memory), so that a retry may succeed."""


OnFailed = Callable[[TrainingFailedError], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """A run to be trained in a separate process.

    Attributes:
        run: the run to train
        folder: folder of the run
        root: root folder of the images
        quick: whether it is only a smoke test
        shared_by: the runs, of any study, that share this training run
    """

    run: Run
    folder: Path
    root: Path
    quick: bool = False
    shared_by: list[tuple[Study, Run]] = field(default_factory=list)

    def words(self) -> list[str]:
        """The command-line arguments of the Python interpreter."""
        return ["-m", "metaprompts", "train", *self.run.words(self.root, self.folder), "--resume", "auto"]

    def start(self) -> subprocess.Popen[bytes]:
        """Start or resume training with one thread; the output goes to a file in the folder.

        The process has its own session, so that Ctrl-C and closing the terminal reach only the parent, which then asks
        the process once to stop.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOG).open("wb") as log:
            return subprocess.Popen(
                [sys.executable, *self.words()],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )

    def result(self, returned: int) -> Result:
        """The result, once the process has exited.

        Args:
            returned: exit code of the process, or minus the number of the signal that ended it

        Raises:
            InputError: the run was asked to stop, or its input is invalid
            TrainingFailedError: the run neither finished nor diverged, for another reason
        """
        run = self.run
        return {
            "seed": run.seed,
            **({"quick": True} if self.quick else {}),
            "training": run.key,
            "command": run.command,
            "commit": _commit(),
            "versions": {"metaprompts": __version__, **versions("torch")},
            "settings": run.settings,
            **_outcome(run, self.folder, returned),
        }


def train_all(
    studies: Sequence[Study],
    out: Path,
    roots: Roots,
    *,
    processes: int = 1,
    selects: RunFilter = lambda run: True,
    again: bool = False,
    on_done: OnDone = lambda study, run, result: None,
    on_failed: OnFailed = lambda error: None,
) -> None:
    """Train every run without a result; runs with the same settings, data and seed are trained once.

    Each run has its own process with one thread. Divergence counts as a result. A failed run has no result and does not
    stop the others; a run with bad input stops all.

    Args:
        studies: the studies to train, one after another
        out: folder for STUDY/results/ and runs/
        roots: folders of images
        processes: number of parallel runs
        selects: whether to include a run
        again: discard existing results and retrain
        on_done: called for every result, including stored results
        on_failed: called for every failed run

    Raises:
        InputError: a cell's data is missing or invalid, or a result is damaged or has different settings
    """
    pairs = [(study, run) for study in studies for run in study.runs() if selects(run)]
    check_data_exists(pairs, roots)
    if again:
        for study, run in pairs:
            forget_result(study, run, out)
    shared = paths_by_key(out)
    found = {run.key: result for study, run in pairs if (result := stored_result(study, run, out, shared)) is not None}
    waiting: dict[str, Training] = {}
    for study, run in pairs:
        if run.key in found:
            on_done(study, run, keep_result(study, run, out, found[run.key]))
        else:
            folder, root = training_folder(out, run), roots[run.cell.data]
            new = Training(run=run, folder=folder, root=root, quick=study.quick)
            waiting.setdefault(run.key, new).shared_by.append((study, run))

    def finish(training: Training, result: Result) -> None:
        for study, run in training.shared_by:
            on_done(study, run, keep_result(study, run, out, result))

    train_in_processes(waiting.values(), processes, finish, on_failed)


def train_in_processes(
    trainings: Iterable[Training],
    processes: int,
    on_done: Callable[[Training, Result], None],
    on_failed: OnFailed = lambda error: None,
) -> None:
    """Train several runs at a time; any error other than a failed run stops all of them.

    Runs in progress are then asked to stop, and can be resumed later.
    """
    waiting = list(trainings)
    running: dict[subprocess.Popen[bytes], Training] = {}
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                training = waiting.pop(0)
                running[training.start()] = training
            time.sleep(_POLL_S)
            for process in [process for process in running if process.poll() is not None]:
                training = running.pop(process)
                try:
                    result = training.result(process.returncode)
                except TrainingFailedError as error:
                    on_failed(error)
                else:
                    on_done(training, result)
    except BaseException:
        # Orphaned processes would collide with those that resume the same runs.
        _end(list(running))
        raise


def _end(running: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask each process once to stop, and wait for all of them; a second request (Ctrl-C) ends them immediately."""
    signaled: set[subprocess.Popen[bytes]] = set()
    while any(process.poll() is None for process in running):
        # A second Ctrl-C most likely arrives during this wait.
        try:
            for process in set(running) - signaled:
                process.terminate()
                signaled.add(process)
            time.sleep(_POLL_S)
        except KeyboardInterrupt:
            signaled.clear()


def check_data_exists(pairs: Iterable[tuple[Study, Run]], roots: Roots) -> None:
    """Check that the data folders of runs exist and have the files that the recipes name.

    Raises:
        InputError: a folder is not given, or lacks a file named in a recipe
    """
    seen = []
    for study, run in pairs:
        cell = run.cell
        if cell.data not in roots:
            raise InputError(
                f"cell {cell.name} of study {study.name} needs data {cell.data!r}: pass --data {cell.data}=DIR, or "
                "skip such cells with --skip-missing-data"
            )
        recipe = run.recipe(roots[cell.data], Path())
        reads = (recipe.data, recipe.task, recipe.prompts.kind)
        if reads not in seen:
            seen.append(reads)
            try:
                _find_data(recipe)
            except InputError as error:
                raise InputError(f"cell {cell.name} of study {study.name}: {error}") from error


def _find_data(recipe: Recipe) -> None:
    for split in _SPLITS:
        samples_of(recipe, split)
    if recipe.prompts.kind == "caption" and recipe.data.captioner is None:
        recipe.data.caption_file()


def _outcome(run: Run, folder: Path, returned: int) -> Result:
    if returned:
        return _divergence(run, folder, returned)
    last = read_json(folder / "metrics.json")["validations"][-1]
    facts = {"steps": last.pop("step"), "seconds": _seconds(folder)}
    value = last[run.cell.metric]
    # JSON has no NaN, so non-finite numbers are null.
    if value is None or not math.isfinite(value):
        return {**facts, "failed": f"{run.cell.metric} of the last validation is no longer finite", "diverged": True}
    return {**facts, "scores": {name: value for name, value in last.items() if isinstance(value, int | float)}}


def _divergence(run: Run, folder: Path, returned: int) -> Result:
    """The result of a run that did not finish, if it diverged; see `Training.result`."""
    # The process may have been killed, or have stopped cleanly with a shell's exit code for the signal.
    number = -returned if returned < 0 else returned - _SIGNALED
    if number in (signal.SIGINT, signal.SIGTERM):
        raise InputError(f"training {run.path} was stopped by signal {number}; run the same command again to resume it")
    log = folder / _LOG
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    said = lines[-1].replace(str(folder), "OUT") if lines else f"exit code {returned}"
    if is_divergence(said):
        return {"failed": said, "diverged": True}
    if returned == _BAD_INPUT and not said.endswith(SHOWN_BY_DEBUG):
        raise InputError(f"training {run.path}: {said.removeprefix('error: ')}")
    if returned < 0:
        said = f"killed by signal {number}, perhaps out of memory; its last line: {said}"
    raise TrainingFailedError(f"training {run.path} failed ({said}); see {log}; run the same command again to retry")


def _seconds(folder: Path) -> float:
    """Seconds taken by all steps, including steps before interruptions."""
    return round(math.fsum(line.get("seconds", 0.0) for line in read_lines(folder / "log.jsonl")), 1)


def _commit() -> str | None:
    """The commit of the code, if it is in a repository; ends in "-dirty" if files are changed."""
    asked = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or None
