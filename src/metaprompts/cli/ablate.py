"""``metaprompts ablate``."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from metaprompts.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Ablate:
    """Train variants of recipes with several seeds, and compare them.

    STUDY is a TOML file that names cells (a recipe, data and a metric each), variants (what is changed) and seeds;
    studies/ has examples. Every training runs in its own process with one thread. Stopped at any time, the same command
    goes on: what has a result is not trained again. Prints a Markdown table and writes it to OUT/table.md.
    """

    study: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STUDY")]
    """A TOML file."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for results/ (a small JSON file each) and runs/ (models and logs)."""
    data: tuple[str, ...] = ()
    """NAME=DIR for each data that the study names."""
    processes: int = 1
    """Trainings at the same time."""

    def run(self) -> int:
        """Train what has no result, and print the table."""
        from metaprompts.ablation.runs import read_results, train_all
        from metaprompts.ablation.study import read_study
        from metaprompts.ablation.summary import markdown
        from metaprompts.files import write_text

        if self.processes < 1:
            raise InputError(f"--processes is {self.processes}; wanted at least 1")
        study = read_study(self.study)
        train_all(study, self.out, _roots(self.data), processes=self.processes, on_done=_Told(len(study.runs())))
        table = markdown(study, read_results(study, self.out))
        write_text(self.out / "table.md", f"# {study.title}\n\n{table}")
        sys.stdout.write(table)
        return 0


def _roots(words: tuple[str, ...]) -> dict[str, Path]:
    roots = {}
    for word in words:
        name, equals, folder = word.partition("=")
        if not equals or not name or not folder:
            raise InputError(f"--data {word!r} is not understood: say NAME=DIR")
        if not Path(folder).is_dir():
            raise InputError(f"--data {name}: {folder} is no folder")
        roots[name] = Path(folder)
    return roots


class _Told:
    """Prints a line for each result."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0

    def __call__(self, run: Any, result: dict[str, Any]) -> None:
        self._done += 1
        outcome = f"failed: {result['failed']}" if "failed" in result else f"{result['scores'][run.cell.metric]:.4f}"
        sys.stderr.write(f"{self._done}/{self._total}  {run.name}  {run.cell.metric} {outcome}\n")
