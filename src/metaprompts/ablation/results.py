"""Stored results: OUT/STUDY/results/CELL--VARIANT--SEED.json, one small file per run of a study.

Runs with the same key, even in different studies, are trained once, in the folder OUT/runs/RECIPE--SEED--KEY.
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from metaprompts.ablation.study import Run, Study
from metaprompts.errors import InputError
from metaprompts.utils.files import read_json, write_json

Result = dict[str, Any]
"""The result of a run: "cell", "variant", "seed", "command", "commit", and "scores" or, if the run diverged, "failed",
which names the non-finite value. Newer results also have "training" (the run's
key), "settings", "versions", "steps", "seconds" (for all steps) and "diverged"."""

_TYPES = {
    **{"seed": int, "steps": int, "seconds": int | float, "quick": bool, "diverged": bool},
    **{"training": str, "command": str, "failed": str, "commit": str | None},
    **{"scores": dict, "settings": dict, "versions": dict},
}
_CURE = "remove it, and run the same command again to retrain"


def results_folder(out: Path, study: Study) -> Path:
    """The folder of a study's results, one small file per run."""
    return out / study.name / "results"


def training_folder(out: Path, run: Run) -> Path:
    """The output folder of a run."""
    return out / "runs" / f"{Path(run.cell.recipe).stem}--{run.seed}--{run.key}"


def read_results(study: Study, folder: Path) -> dict[str, Result]:
    """The available results by run name.

    Raises:
        InputError: a result is damaged or has different settings, or only one of result and study is quick
    """
    read = {run.name: _read(folder / f"{run.name}.json", study, run) for run in study.runs()}
    return {name: result for name, result in read.items() if result is not None}


def paths_by_key(out: Path) -> dict[str, list[Path]]:
    """The result files of all studies by run key; skips unreadable results."""
    paths: dict[str, list[Path]] = {}
    for path in sorted(out.glob("*/results/*.json")):
        with suppress(InputError):
            result = read_json(path)
            if isinstance(result, dict) and "training" in result:
                paths.setdefault(str(result["training"]), []).append(path)
    return paths


def stored_result(study: Study, run: Run, out: Path, shared: Mapping[str, Sequence[Path]]) -> Result | None:
    """The stored result of a run, or that of a run with the same key in another study.

    Args:
        study: the study of the run
        run: the run whose result is read
        out: folder of all studies
        shared: see `paths_by_key`

    Raises:
        InputError: see `read_results`
    """
    paths = (_path(study, run, out), *shared.get(run.key, ()))
    return next((result for path in paths if (result := _read(path, study, run)) is not None), None)


def keep_result(study: Study, run: Run, out: Path, result: Result) -> Result:
    """Write a run's result, or that of a run with the same key, unless it exists; returns the result for this study."""
    facts = {name: value for name, value in result.items() if name not in ("cell", "variant")}
    own = {"cell": run.cell.name, "variant": run.variant.name, **facts, "training": run.key}
    path = _path(study, run, out)
    if _read(path, study, run) is None:
        write_json(path, own)
    return own


def forget_result(study: Study, run: Run, out: Path) -> None:
    """Remove a run and its results, including the results of other studies that share the run."""
    shutil.rmtree(training_folder(out, run), ignore_errors=True)
    for path in (_path(study, run, out), *paths_by_key(out).get(run.key, ())):
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
        raise InputError(f"{where} has no {metric!r}; expected one of {', '.join(result['scores'])}")
    value = float(result["scores"][metric])
    return value if math.isfinite(value) else None


def _path(study: Study, run: Run, out: Path) -> Path:
    return results_folder(out, study) / f"{run.name}.json"


def _read(path: Path, study: Study, run: Run) -> Result | None:
    """A run's result; None if there is none, or the run failed without diverging."""
    if not path.is_file():
        return None
    try:
        result: Result = read_json(path)
    except InputError as error:
        raise InputError(f"{error}: {_CURE}") from error
    _check_intact(result, run, path)
    if bool(result.get("quick")) != study.quick:
        kind = "a quick run" if result.get("quick") else "a full run"
        raise InputError(
            f"{path} comes from {kind}; quick and full runs need separate folders: remove it, or choose another folder"
        )
    if not _is_of(result, run):
        raise InputError(
            f"{path} was made with settings that differ from those of study {study.name} ({run.command}): remove it, "
            "choose another folder, or change the study back"
        )
    return result if "scores" in result or result.get("diverged", is_divergence(result["failed"])) else None


def _is_of(result: Result, run: Run) -> bool:
    """Whether a result has the run's current settings; if the recipe is unknown, only commands are compared."""
    if "training" in result and run.cell.has_recipe:
        return bool(result["training"] == run.key)
    return bool(result.get("command") == run.command)


def _check_intact(result: Any, run: Run, path: Path) -> None:
    wrong = None
    if not isinstance(result, dict):
        wrong = "not a JSON object"
    elif ("scores" in result) == ("failed" in result):
        wrong = 'expected either "scores" or "failed"'
    elif result.get("seed") != run.seed:
        wrong = f"seed {result.get('seed')!r}; expected {run.seed}"
    else:
        odd = [name for name, kind in _TYPES.items() if name in result and not isinstance(result[name], kind)]
        if not odd:
            odd = [name for name, value in result.get("scores", {}).items() if not isinstance(value, int | float)]
        wrong = f"{odd[0]!r} has the wrong type" if odd else None
    if wrong is not None:
        raise InputError(f"{path} is not a result of metaprompts ablate ({wrong}): {_CURE}")
