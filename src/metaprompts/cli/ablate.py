"""``metaprompts ablate``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from metaprompts.cli.console import complain, say
from metaprompts.cli.options import argument, option
from metaprompts.cli.outcome import OK, SOME_FAILED
from metaprompts.errors import InputError
from metaprompts.utils.schema import Range

if TYPE_CHECKING:
    from metaprompts.ablation.reproduce import Checked
    from metaprompts.ablation.results import Result
    from metaprompts.ablation.runs import TrainingFailedError
    from metaprompts.ablation.study import Run, Study

_DIFFERENT = 1


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
    """Discard the results of --only, and retrain."""
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
        from metaprompts.ablation.estimate import plan_text
        from metaprompts.ablation.smoke import FOLDER
        from metaprompts.utils.locks import writing_into

        self._check_words()
        given = _roots(self.data)
        studies, out = self._studies(given), self.out / FOLDER if self.quick else self.out
        if self.plan:
            say(plan_text(studies, out, self.processes))
            return OK
        if self.show:
            self._write_tables(studies, out)
            return OK
        with writing_into(out, "ablate"):
            return self._train(studies, given, out)

    def _train(self, studies: "Sequence[Study]", given: dict[str, Path], out: Path) -> int:
        from metaprompts.ablation.runs import train_all

        roots = self._with_scenes(studies, given, out)
        if self.check:
            return self._check(studies, out, roots)
        total = sum(self._is_selected(run) for study in studies for run in study.runs())
        failures = _Failures()
        try:
            train_all(
                studies,
                out,
                roots,
                processes=self.processes,
                selects=self._is_selected,
                again=self.again,
                on_done=_Reporter(total),
                on_failed=failures,
            )
        finally:
            self._write_tables(studies, out)
        return SOME_FAILED if failures.count else OK

    def _check_words(self) -> None:
        if self.again and not self.only:
            raise InputError("--again discards results: choose which with --only CELL/VARIANT/SEED")
        if self.stored is not None and not (self.check or self.show):
            raise InputError("--stored needs --check or --show")
        if sum((self.plan, self.show, self.check, self.again)) > 1:
            raise InputError("--plan, --show, --check and --again exclude each other: pass one of them")

    def _studies(self, given: dict[str, Path]) -> "list[Study]":
        from metaprompts.ablation.smoke import quick_study
        from metaprompts.ablation.study import read_study

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
        for pattern in self.only:
            if not any(fnmatchcase(run.path, pattern) for study in studies for run in study.runs()):
                raise InputError(f"--only {pattern} matches no run: give CELL/VARIANT/SEED; each part may be *")
        return studies

    def _is_selected(self, run: "Run") -> bool:
        return not self.only or any(fnmatchcase(run.path, pattern) for pattern in self.only)

    def _with_scenes(self, studies: "Sequence[Study]", given: dict[str, Path], out: Path) -> dict[str, Path]:
        """The data folders; generates scenes if a run needs them and no folder is given."""
        from metaprompts.ablation.scenes_data import SCENES, generate
        from metaprompts.utils.progress import tracked

        roots = dict(given)
        for study in studies:
            uses = any(run.cell.data == SCENES and self._is_selected(run) for run in study.runs())
            if study.scenes is None or not uses or (SCENES in given and not self.quick):
                continue
            roots[SCENES] = generate(
                study.scenes,
                out / "data" / SCENES,
                processes=self.processes,
                quick=self.quick,
                progress=partial(tracked, what="drawing scenes"),
            )
        return roots

    def _check(self, studies: "Sequence[Study]", out: Path, roots: dict[str, Path]) -> int:
        from metaprompts.ablation.reproduce import check_all

        def report(checked: "Checked") -> None:
            say(f"{checked}\n")

        failures = _Failures()
        checked = check_all(
            studies,
            out,
            roots,
            stored=self.stored,
            processes=self.processes,
            selects=self._is_selected,
            on_done=report,
            on_failed=failures,
        )
        return OK if all(one.is_same for one in checked) and not failures.count else _DIFFERENT

    def _write_tables(self, studies: "Iterable[Study]", out: Path) -> None:
        from metaprompts.ablation.plots import study_figure
        from metaprompts.ablation.results import read_results, results_folder
        from metaprompts.ablation.tables import markdown
        from metaprompts.utils.files import write_image, write_text

        for study in studies:
            stored = results_folder(out, study) if self.stored is None else self.stored / study.name
            results = read_results(study, stored)
            if not results and not self.show:
                continue
            text = f"# {study.title}\n\n{markdown(study, results)}"
            write_text(out / study.name / "table.md", text)
            write_image(out / study.name / "table.png", study_figure(study, results))
            say(f"{text}\n")


def _roots(words: tuple[str, ...]) -> dict[str, Path]:
    roots = {}
    for word in words:
        name, equals, folder = word.partition("=")
        if not equals or not name or not folder:
            raise InputError(f"--data is {word!r}; expected NAME=DIR")
        if not Path(folder).is_dir():
            raise InputError(f"--data {name}: {folder} is not a folder")
        roots[name] = Path(folder)
    return roots


def _without_missing(study: "Study", given: dict[str, Path]) -> "Study | None":
    """The study without cells whose data is missing; None if no cell is left."""
    from metaprompts.ablation.scenes_data import SCENES

    known = {*given, *([SCENES] if study.scenes else [])}
    cells = tuple(cell for cell in study.cells if cell.data in known)
    for cell in study.cells:
        if cell.data not in known:
            complain(f"skipped: cell {cell.name} of study {study.name}, which needs --data {cell.data}=DIR\n")
    return replace(study, cells=cells) if cells else None


class _Failures:
    """Prints and counts failed runs."""

    count = 0

    def __call__(self, error: "TrainingFailedError") -> None:
        self.count += 1
        complain(f"error: {error}\n")


class _Reporter:
    """Prints a line for each result."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0

    def __call__(self, study: "Study", run: "Run", result: "Result") -> None:
        from metaprompts.ablation.results import score

        self._done += 1
        value: Any = score(result, run.cell.metric, run.path)
        outcome = f"diverged: {result.get('failed', 'not finite')}" if value is None else f"{value:.4f}"
        complain(f"{self._done}/{self._total}  {study.name}  {run.path}  {run.cell.metric} {outcome}\n")
