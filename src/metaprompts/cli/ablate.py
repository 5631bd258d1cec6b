"""``metaprompts ablate``."""

from contextlib import closing
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from metaprompts.cli.console import complain, say
from metaprompts.cli.options import argument, option
from metaprompts.cli.outcome import OK, SOME_FAILED
from metaprompts.errors import InputError
from metaprompts.utils.schema import Range

if TYPE_CHECKING:
    from metaprompts.ablation.study import Run, Study

_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Ablate:
    """Train variants of recipes with several seeds, and compare them.

    STUDY is a TOML file with cells (each a recipe, data and a metric), variants (changes to the recipe) and seeds;
    studies/ has examples. Every run has its own process with one thread; a run that several studies share is trained
    once. If interrupted, run the same command again: it skips finished runs. Writes OUT/STUDY/results/ (one small JSON
    file per run), OUT/STUDY/table.md and table.png; models and logs go to OUT/runs/.

    Divergence counts as a result. A run that crashes has no result and does not stop the others (exit code 1). A run
    with bad input stops the command (exit code 2). Run the same command again to retrain failed runs.
    """

    study: tuple[Path, ...] = argument("STUDY")
    """TOML files, processed one after another."""
    out: Path = option(Path("runs/ablations"), metavar="DIR")
    """Folder for results and runs of all studies."""
    data: tuple[str, ...] = option((), metavar="NAME=DIR")
    """Folder of a data set named by the studies; may be repeated. Without scenes=DIR, scenes are generated in
    OUT/data/scenes if a study defines them."""
    processes: Annotated[int, Range(1, 10**6)] = 1
    """Number of parallel runs."""
    only: tuple[str, ...] = option((), metavar="CELL/VARIANT/SEED")
    """Select the runs that match; any of the three parts may be *. May be repeated."""
    again: bool = False
    """Discard the results selected by --only, and retrain."""
    check: bool = False
    """Retrain finished runs in OUT/check; exit code 1 if one fails or its result differs by more than 1e-3."""
    stored: Path | None = option(None, metavar="DIR")
    """With --check or --show: read results from DIR/STUDY/ instead of OUT; for example --stored results."""
    quick: bool = False
    """Smoke-test the studies in a minute or two: two steps, one seed, one cell per recipe, all in OUT/quick."""
    plan: bool = False
    """Only print the number of runs and their estimated time."""
    show: bool = False
    """Only make tables and charts from the available results."""
    skip_missing_data: bool = False
    """Skip cells whose data is not given."""

    def run(self) -> int:
        """Train runs without a result, and print the tables."""
        from metaprompts.ablation.runs import data_folders, plan_text
        from metaprompts.utils.locks import writing_into

        self._check_options()
        given = dict(map(_named_folder, self.data))
        studies, out = self._studies(given), self.out / "quick" if self.quick else self.out
        runs = self._selected_runs(studies)
        if self.plan:
            say(plan_text(studies, out, self.processes))
            return OK
        if self.show:
            self._write_tables(studies, out)
            return OK
        with writing_into(out, "ablate"):
            folders = data_folders(studies, runs, given, out, processes=self.processes)
            if self.check:
                stored = self._stored_scores(runs, out)
                return self._train(list(stored), out / "check", folders, stored)
            try:
                return self._train(runs, out, folders, {})
            finally:
                self._write_tables(studies, out)

    def _check_options(self) -> None:
        if self.again and not self.only:
            raise InputError("--again discards results: choose which with --only CELL/VARIANT/SEED")
        if self.stored is not None and not (self.check or self.show):
            raise InputError("--stored needs --check or --show")
        if sum((self.plan, self.show, self.check, self.again)) > 1:
            raise InputError("--plan, --show, --check and --again are mutually exclusive: pass one of them")

    def _studies(self, given: dict[str, Path]) -> "list[Study]":
        from metaprompts.ablation.study import quick_study, read_study

        studies = [read_study(path, trains=not self.show) for path in self.study]
        for name in sorted({cell.recipe for study in studies for cell in study.cells if not cell.has_recipe}):
            complain(f"recipe {name} is missing: results are matched to this study only by their commands\n")
        names = [study.name for study in studies]
        if len(set(names)) != len(names):
            raise InputError(f"two studies have the same name: {', '.join(names)}")
        if self.quick:
            studies = [quick_study(study, given) for study in studies]
        if self.skip_missing_data:
            studies = [kept for study in studies if (kept := _without_missing(study, given)) is not None]
        return studies

    def _selected_runs(self, studies: "list[Study]") -> "list[Run]":
        runs = [run for study in studies for run in study.runs]
        for pattern in self.only:
            if not any(fnmatchcase(run.path, pattern) for run in runs):
                raise InputError(f"--only {pattern} matches no run: give CELL/VARIANT/SEED; each part may be *")
        return [run for run in runs if not self.only or any(fnmatchcase(run.path, each) for each in self.only)]

    def _stored_scores(self, runs: "list[Run]", out: Path) -> dict["Run", float | None]:
        from metaprompts.ablation.results import read_results, results_folder, score

        stored = {
            run: score(result, run.cell.metric, run.path)
            for run in runs
            for result in read_results([run], results_folder(out, run.study, self.stored)).values()
        }
        if not stored:
            raise InputError(f"nothing to check: {self.stored or out} has no results for these runs")
        return stored

    def _train(self, runs: "list[Run]", out: Path, folders: dict[str, Path], stored: dict["Run", float | None]) -> int:
        """Train runs, and print their scores or, with --check, compare these with the stored ones."""
        from metaprompts.ablation.results import score
        from metaprompts.ablation.runs import train_all

        is_wrong = False
        with closing(train_all(runs, out, folders, processes=self.processes, again=self.again or self.check)) as ended:
            for done, (run, outcome) in enumerate(ended, 1):
                if isinstance(outcome, str):
                    complain(f"error: {outcome}\n")
                    is_wrong = True
                    continue
                value = score(outcome, run.cell.metric, run.path)
                if self.check:
                    is_same = _are_same(stored[run], value)
                    is_wrong |= not is_same
                    before, verdict = _spelled(stored[run]), "the same" if is_same else "DIFFERENT"
                    say(f"{run.path}  {run.cell.metric} stored {before}, retrained {_spelled(value)}: {verdict}\n")
                else:
                    reason = f": {outcome.get('failed', 'not finite')}" if value is None else ""
                    said = f"{done}/{len(runs)}  {run.study}  {run.path}  {run.cell.metric} {_spelled(value)}{reason}"
                    complain(f"{said}\n")
        return SOME_FAILED if is_wrong else OK

    def _write_tables(self, studies: "list[Study]", out: Path) -> None:
        from metaprompts.ablation.report import figure, markdown
        from metaprompts.ablation.results import read_results, results_folder
        from metaprompts.utils.files import write_image, write_text

        for study in studies:
            results = read_results(study.runs, results_folder(out, study.name, self.stored))
            if results or self.show:
                text = f"# {study.title}\n\n{markdown(study, results)}"
                write_text(out / study.name / "table.md", text)
                write_image(out / study.name / "table.png", figure(study, results))
                say(f"{text}\n")


def _named_folder(word: str) -> tuple[str, Path]:
    name, _, folder = word.partition("=")
    if not name or not folder:
        raise InputError(f"--data is {word!r}; expected NAME=DIR")
    if not Path(folder).is_dir():
        raise InputError(f"--data {name}: {folder} is not a folder")
    return name, Path(folder)


def _without_missing(study: "Study", given: dict[str, Path]) -> "Study | None":
    """The study without cells whose data is missing; None if no cell is left."""
    cells = tuple(cell for cell in study.cells if study.has_data(cell, given))
    for cell in study.cells:
        if cell not in cells:
            complain(f"skipped: cell {cell.name} of study {study.name}, which needs --data {cell.data}=DIR\n")
    return replace(study, cells=cells) if cells else None


def _are_same(old: float | None, new: float | None) -> bool:
    return old is new if old is None or new is None else abs(old - new) <= _TOLERANCE


def _spelled(value: float | None) -> str:
    return "diverged" if value is None else f"{value:.4f}"
