"""Where numbers are kept: a small file for each run of a study, and one beside each training that runs share.

OUT/STUDY/results/CELL--VARIANT--SEED.json    what a study knows, to be kept
OUT/runs/RECIPE--SEED--KEY/result.json        the same training, for every study that has it
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metaprompts.ablation.study import Run, Study
from metaprompts.errors import InputError
from metaprompts.files import read_json, write_json

Result = dict[str, Any]
"""Of a training: "cell", "variant", "seed", "command", "commit", and "scores", or "failed" with the reason. Newer ones
also have "training" (the run's key), "settings", "versions", "steps", "seconds" (of all steps), and "diverged"."""

# Where results of the first format are, of the one study that a folder had then.
_EARLIER = "results"
_NAMES = ("cell", "variant")


def results_folder(out: Path, study: Study) -> Path:
    """Where a study's numbers are, one small file a training."""
    return out / study.name / "results"


def training_folder(out: Path, run: Run) -> Path:
    """Where a training writes."""
    return out / "runs" / f"{Path(run.cell.recipe).stem}--{run.seed}--{run.key}"


def read_results(study: Study, folder: Path) -> dict[str, Result]:
    """The results there are, by the name of their run.

    Raises:
        InputError: one cannot be read, or is of a quick run and the study is not, or the other way round
    """
    found = {run.name: folder / f"{run.name}.json" for run in study.runs()}
    return {name: _read(path, study) for name, path in found.items() if path.is_file()}


def known_results(study: Study, out: Path) -> dict[str, Result]:
    """A study's results in the folder of a command: its own, and for runs without one those of the first format.

    Raises:
        InputError: see `read_results`
    """
    return {**read_results(study, out / _EARLIER), **read_results(study, results_folder(out, study))}


def stored_result(study: Study, run: Run, out: Path) -> Result | None:
    """What is known of a run: its own file, that of the shared training, or a file of the first format.

    Raises:
        InputError: there is one of other settings
    """
    for path in result_paths(study, run, out):
        if path.is_file():
            result = _read(path, study)
            _refuse_other(result, run, path)
            return result
    shared = training_folder(out, run) / "result.json"
    return _read(shared, study) if shared.is_file() else None


def result_paths(study: Study, run: Run, out: Path) -> tuple[Path, Path]:
    """Where a run's result is, and where it would be in the first format."""
    name = f"{run.name}.json"
    return results_folder(out, study) / name, out / _EARLIER / name


def keep_result(study: Study, run: Run, out: Path, result: Result) -> Result:
    """Write what came of a training for this study and, where nobody did, for others.

    Returns:
        the result as this study has it
    """
    facts = {name: value for name, value in result.items() if name not in _NAMES}
    own = {"cell": run.cell.name, "variant": run.variant.name, **facts, "training": run.key}
    path = results_folder(out, study) / f"{run.name}.json"
    if not path.is_file():
        write_json(path, own)
    shared = training_folder(out, run) / "result.json"
    if not shared.is_file():
        write_json(shared, {**facts, "training": run.key})
    return own


def has_diverged(result: Mapping[str, Any]) -> bool:
    """Whether a training ended because a number was no longer finite."""
    return bool(result.get("diverged", "no longer finite" in result.get("failed", "")))


def score(result: Mapping[str, Any], metric: str, where: str) -> float | None:
    """A training's number; None where it failed.

    Raises:
        InputError: the metric is not there
    """
    if "scores" not in result:
        return None
    if metric not in result["scores"]:
        raise InputError(f"{where} has no {metric!r}; there are {', '.join(result['scores'])}")
    value = float(result["scores"][metric])
    return value if math.isfinite(value) else None


def _read(path: Path, study: Study) -> Result:
    result = read_json(path)
    if not isinstance(result, dict) or "seed" not in result or ("scores" in result) == ("failed" in result):
        raise InputError(f"{path} is no result of metaprompts ablate: remove it")
    if bool(result.get("quick")) != study.quick:
        kind = "a quick run" if result.get("quick") else "no quick run"
        raise InputError(f"{path} is of {kind}, which must not be mixed: remove it, or choose another folder")
    return result


def _refuse_other(result: Result, run: Run, path: Path) -> None:
    same = result["training"] == run.key if "training" in result else result.get("command") == run.command
    if not same:
        raise InputError(
            f"{path} is of other settings than the study has now ({run.command}): remove it, or choose another --out"
        )
