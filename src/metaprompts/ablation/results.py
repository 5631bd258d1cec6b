"""Stored results: OUT/STUDY/results/CELL--VARIANT--SEED.json, one small file per run of a study.

Runs with the same key, even in different studies, are trained once, in the folder OUT/runs/RECIPE--SEED--KEY.
"""

import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from metaprompts.ablation.study import Run
from metaprompts.errors import InputError
from metaprompts.utils.files import read_json, write_json

Result = dict[str, Any]
"""The result of a run: "cell", "variant", "seed", "command", "commit", and "scores" or, if the run diverged, "failed",
which names the non-finite value. Newer results also have "training" (the run's
key), "settings", "versions", "steps", "seconds" (for all steps) and "diverged"."""
Results = Mapping[str, Result]
"""Run name -> result."""

DIVERGED = "no longer finite"
"""Part of the last line that a run prints if a number is not finite."""

_TYPES = {
    **{"seed": int, "steps": int, "seconds": int | float, "quick": bool, "diverged": bool},
    **{"training": str, "command": str, "failed": str, "commit": str | None},
    **{"scores": dict, "settings": dict, "versions": dict},
}
_CURE = "remove it, and run the same command again to retrain"


def results_folder(out: Path, study: str, stored: Path | None = None) -> Path:
    """The folder of a study's results, one small file per run: STORED/STUDY, or by default OUT/STUDY/results."""
    return out / study / "results" if stored is None else stored / study


def training_folder(out: Path, run: Run) -> Path:
    """The output folder of a run."""
    return out / "runs" / f"{Path(run.cell.recipe).stem}--{run.seed}--{run.key}"


def read_results(runs: Iterable[Run], folder: Path) -> dict[str, Result]:
    """The available results of a study's runs, by run name.

    Raises:
        InputError: a result is damaged, has different settings, or is quick while the study is not, or vice versa
    """
    read = {run.name: _read(folder / f"{run.name}.json", run) for run in runs}
    return {name: result for name, result in read.items() if result is not None}


def shared_results(runs: Sequence[Run], out: Path) -> dict[str, Result]:
    """The stored results of runs, or of runs with the same key in any other study, by key.

    Raises:
        InputError: see `read_results`
    """
    read = ((run.key, _read(path, run)) for run, paths in _paths(runs, out) for path in paths)
    return {key: result for key, result in read if result is not None}


def keep_result(run: Run, out: Path, result: Result) -> Result:
    """Write a run's result, or that of a run with the same key, unless it exists; returns the result for this run."""
    own = {**result, "cell": run.cell.name, "variant": run.variant.name, "training": run.key}
    path = results_folder(out, run.study) / f"{run.name}.json"
    if _read(path, run) is None:
        write_json(path, own)
    return own


def forget_results(runs: Sequence[Run], out: Path) -> None:
    """Remove runs and their results, including the results of other studies that share the runs."""
    for run, paths in _paths(runs, out):
        shutil.rmtree(training_folder(out, run), ignore_errors=True)
        for path in paths:
            path.unlink(missing_ok=True)


def score(result: Result, metric: str, where: str) -> float | None:
    """A run's score; None if it diverged.

    Raises:
        InputError: the metric is missing
    """
    if "scores" not in result:
        return None
    if metric not in result["scores"]:
        raise InputError(f"{where} has no {metric!r}; expected one of {', '.join(result['scores'])}")
    value = float(result["scores"][metric])
    return value if math.isfinite(value) else None


def _paths(runs: Sequence[Run], out: Path) -> list[tuple[Run, list[Path]]]:
    """Each run with the result files of its key: first those of any study, last its own; skips unreadable files."""
    shared: dict[str, list[Path]] = {run.key: [] for run in runs}
    for path in sorted(out.glob("*/results/*.json")):
        with suppress(InputError, AttributeError):
            shared.get(str(read_json(path).get("training")), []).append(path)
    return [(run, [*shared[run.key], results_folder(out, run.study) / f"{run.name}.json"]) for run in runs]


def _read(path: Path, run: Run) -> Result | None:
    """A run's result; None if there is none, or the run failed without diverging."""
    if not path.is_file():
        return None
    try:
        result: Result = read_json(path)
    except InputError as error:
        raise InputError(f"{error}: {_CURE}") from error
    if damage := _damage(result, run):
        raise InputError(f"{path} is not a result of metaprompts ablate ({damage}): {_CURE}")
    is_quick = result.get("quick", False)
    if is_quick != run.quick:
        raise InputError(
            f"{path} comes from a {'quick' if is_quick else 'full'} run; quick and full runs need separate folders: "
            "remove it, or choose another folder"
        )
    # Without its recipe a run has no key.
    same = ("training", run.key) if "training" in result and run.cell.has_recipe else ("command", run.command)
    if same not in result.items():
        raise InputError(
            f"{path} was made with settings that differ from those of study {run.study} ({run.command}): remove it, "
            "choose another folder, or change the study back"
        )
    return result if "scores" in result or result.get("diverged", DIVERGED in result["failed"]) else None


def _damage(result: Any, run: Run) -> str | None:
    """The reason why a file's content is not a result of the run; None if it is one."""
    if not isinstance(result, dict):
        return "not a JSON object"
    if ("scores" in result) == ("failed" in result):
        return 'expected either "scores" or "failed"'
    if result.get("seed") != run.seed:
        return f"seed {result.get('seed')!r}; expected {run.seed}"
    odd = [name for name, kind in _TYPES.items() if name in result and not isinstance(result[name], kind)]
    odd = odd or [name for name, value in result.get("scores", {}).items() if not isinstance(value, int | float)]
    return f"{odd[0]!r} has the wrong type" if odd else None
