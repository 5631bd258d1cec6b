"""Retrain finished runs and compare the results."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from metaprompts.ablation.results import Result, read_results, results_folder, score
from metaprompts.ablation.runs import OnFailed, Roots, RunFilter, Training, check_data_exists, train_in_processes
from metaprompts.ablation.study import Run, Study
from metaprompts.errors import InputError

TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A stored score and the score of the retrained run.

    Attributes:
        run: the retrained run
        stored: the stored score; None if the run diverged
        again: the new score; None if the run diverged
    """

    run: Run
    stored: float | None
    again: float | None

    @property
    def is_same(self) -> bool:
        """Whether the two scores agree to within `TOLERANCE`, or both runs diverged."""
        if self.stored is None or self.again is None:
            return self.stored is self.again
        return abs(self.stored - self.again) <= TOLERANCE

    def __str__(self) -> str:
        stored, again = ("diverged" if value is None else f"{value:.4f}" for value in (self.stored, self.again))
        return f"{self.run.path}  {self.run.cell.metric} stored {stored}, retrained {again}: " + (
            "the same" if self.is_same else "DIFFERENT"
        )


def check_all(
    studies: Sequence[Study],
    out: Path,
    roots: Roots,
    *,
    stored: Path | None = None,
    processes: int = 1,
    selects: RunFilter = lambda run: True,
    on_done: Callable[[Checked], None] = lambda checked: None,
    on_failed: OnFailed = lambda error: None,
) -> list[Checked]:
    """Retrain finished runs from scratch, in a separate folder.

    Args:
        studies: the studies that contain the runs
        out: folder in which check/ is created; stored results are not changed
        roots: folders of images
        stored: folder with one folder of results per study; None for the results in ``out``
        processes: number of parallel runs
        selects: whether to include a run
        on_done: called after each run
        on_failed: called for every failed run

    Raises:
        InputError: there is no result to check, a result is damaged or has different settings, or data is missing
    """
    known: dict[Training, Result] = {}
    for study in studies:
        results = read_results(study, results_folder(out, study) if stored is None else stored / study.name)
        check_data_exists([(study, run) for run in study.runs() if selects(run) and run.name in results], roots)
        for run in study.runs():
            if selects(run) and run.name in results:
                folder = out / "check" / f"{run.name}--{run.key}"
                shutil.rmtree(folder, ignore_errors=True)
                known[Training(run=run, folder=folder, root=roots[run.cell.data])] = results[run.name]
    if not known:
        raise InputError(f"nothing to check: {stored or out} has no results for these runs")
    done: list[Checked] = []

    def finish(training: Training, result: Result) -> None:
        run, metric = training.run, training.run.cell.metric
        old, new = (score(each, metric, run.path) for each in (known[training], result))
        done.append(Checked(run=run, stored=old, again=new))
        on_done(done[-1])

    train_in_processes(known, processes, finish, on_failed)
    return done
