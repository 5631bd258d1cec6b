"""Stored results: one small file for each run of a study, and one for each training run shared by studies.

OUT/STUDY/results/CELL--VARIANT--SEED.json    what a study knows, to be kept
OUT/runs/RECIPE--SEED--KEY/result.json        the same run, for every study that has it
"""

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metaprompts.ablation.study import Run, Study
from metaprompts.errors import InputError
from metaprompts.utils.files import read_json, write_json

Result = dict[str, Any]
"""Of a run: "cell", "variant", "seed", "command", "commit", and "scores", or, where it diverged, "failed" with
what was not finite. Newer ones also have "training" (the run's key), "settings", "versions", "steps", "seconds" (of all
steps) and "diverged"."""

_NAMES = ("cell", "variant")
_TYPES = {
    **{"seed": int, "steps": int, "seconds": int | float, "quick": bool, "diverged": bool},
    **{"training": str, "command": str, "failed": str, "commit": str | None},
    **{"scores": dict, "settings": dict, "versions": dict},
}
_CURE = "remove it; the same command trains it again"


def results_folder(out: Path, study: Study) -> Path:
    """The folder of a study's results, one small file per run."""
    return out / study.name / "results"


def training_folder(out: Path, run: Run) -> Path:
    """The output folder of a run."""
    return out / "runs" / f"{Path(run.cell.recipe).stem}--{run.seed}--{run.key}"


def read_results(study: Study, folder: Path) -> dict[str, Result]:
    """The available results by run name.

    Raises:
        InputError: a result is damaged or has other settings, or only one of result and study is quick
    """
    read = {run.name: _read(folder / f"{run.name}.json", study, run) for run in study.runs()}
    return {name: result for name, result in read.items() if result is not None}


def stored_result(study: Study, run: Run, out: Path) -> Result | None:
    """The stored result of a run: its own file, or the shared run's.

    Raises:
        InputError: see `read_results`
    """
    for path in (result_path(study, run, out), _shared_path(run, out)):
        if (result := _read(path, study, run)) is not None:
            return result
    return None


def result_path(study: Study, run: Run, out: Path) -> Path:
    """The file of a run's result."""
    return results_folder(out, study) / f"{run.name}.json"


def keep_result(study: Study, run: Run, out: Path, result: Result) -> Result:
    """Write the result of a run for this study and, if missing, for others.

    Returns:
        the result for this study
    """
    facts = {name: value for name, value in result.items() if name not in _NAMES}
    own = {"cell": run.cell.name, "variant": run.variant.name, **facts, "training": run.key}
    path = result_path(study, run, out)
    if _read(path, study, run) is None:
        write_json(path, own)
    shared = _shared_path(run, out)
    if _read(shared, study, run) is None:
        write_json(shared, {**facts, "training": run.key})
    return own


def forget_result(study: Study, run: Run, out: Path) -> None:
    """Remove a run and its results, including those of other studies that share it."""
    shutil.rmtree(training_folder(out, run), ignore_errors=True)
    shared = [path for path in out.glob("*/results/*.json") if _key_of(path) == run.key]
    for path in (result_path(study, run, out), *shared):
        path.unlink(missing_ok=True)


def is_divergence(said: str) -> bool:
    """Whether a run's last output line reports a non-finite number."""
    return "no longer finite" in said


def score(result: Mapping[str, Any], metric: str, where: str) -> float | None:
    """A run's score; None if it diverged.

    Raises:
        InputError: the metric is missing
    """
    if "scores" not in result:
        return None
    if metric not in result["scores"]:
        raise InputError(f"{where} has no {metric!r}; there are {', '.join(result['scores'])}")
    value = float(result["scores"][metric])
    return value if math.isfinite(value) else None


def _shared_path(run: Run, out: Path) -> Path:
    return training_folder(out, run) / "result.json"


def _read(path: Path, study: Study, run: Run) -> Result | None:
    """A run's result; None if there is none, or the run failed without diverging."""
    if not path.is_file():
        return None
    try:
        result = read_json(path)
    except InputError as error:
        raise InputError(f"{error}: {_CURE}") from error
    _check_intact(result, run, path)
    if bool(result.get("quick")) != study.quick:
        kind = "a quick run" if result.get("quick") else "no quick run"
        raise InputError(f"{path} is of {kind}, which must not be mixed: remove it, or choose another folder")
    if not _is_of(result, run):
        raise InputError(
            f"{path} is of other settings than study {study.name} has now ({run.command}): remove it, choose another "
            "folder, or change the study back"
        )
    kept: Result = result
    return kept if "scores" in kept or kept.get("diverged", is_divergence(kept["failed"])) else None


def _is_of(result: Result, run: Run) -> bool:
    """Whether a result belongs to a run's current settings; if the recipe is unknown, only the command decides."""
    if "training" in result and run.cell.has_recipe:
        return bool(result["training"] == run.key)
    return bool(result.get("command") == run.command)


def _check_intact(result: Any, run: Run, path: Path) -> None:
    wrong = None
    if not isinstance(result, dict):
        wrong = "no JSON object"
    elif ("scores" in result) == ("failed" in result):
        wrong = 'expected either "scores" or "failed"'
    elif result.get("seed") != run.seed:
        wrong = f"seed {result.get('seed')!r}; expected {run.seed}"
    else:
        odd = [name for name, kind in _TYPES.items() if name in result and not isinstance(result[name], kind)]
        if not odd:
            odd = [name for name, value in result.get("scores", {}).items() if not isinstance(value, int | float)]
        wrong = f"{odd[0]!r} is of the wrong type" if odd else None
    if wrong is not None:
        raise InputError(f"{path} is not a result of metaprompts ablate ({wrong}): {_CURE}")


def _key_of(path: Path) -> str | None:
    """The key of a result's run; None if unknown."""
    try:
        result = read_json(path)
    except InputError:
        return None
    return result.get("training") if isinstance(result, dict) else None
