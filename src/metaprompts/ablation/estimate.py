"""Estimate how many runs the studies need and how long they take."""

from collections.abc import Sequence
from pathlib import Path

from metaprompts.ablation.results import paths_by_key, stored_result
from metaprompts.ablation.study import Run, Study

# Images per second on one core, at K = 3, measured on the machine that docs/ablations.md describes.
_RATES = {
    "scenes_segmentation": 5.8,
    "scenes_depth": 9.5,
    "scenes_pose": 18.0,
    "micro_segmentation": 4.5,
    "micro_depth": 6.0,
    "micro_pose": 14.0,
}
_RATE_OF_OTHERS = 5.0
_STEPS_OF_RATES = 3
# The fraction of a step's time that does not grow with K: encoder, head, loss.
_WITHOUT_UNET = 0.2
# Seconds per run for starting, validating and saving.
_OVERHEAD_S = 40.0


def plan_text(studies: Sequence[Study], out: Path, processes: int) -> str:
    """One line per study and one for all studies: runs, finished or shared runs, remaining hours."""
    lines: list[str] = []
    seen: set[str] = set()
    total_s = 0.0
    stored = paths_by_key(out)
    for study in studies:
        runs = study.runs()
        done = {run.key for run in runs if stored_result(study, run, out, stored) is not None}
        shared = {run.key for run in runs} & seen
        waiting = {run.key: run for run in runs if run.key not in done and run.key not in seen}
        seconds = sum(map(seconds_of, waiting.values()))
        seen |= {run.key for run in runs}
        total_s += seconds
        lines.append(
            f"{study.name}: {len(runs)} runs, {len(done)} done, {len(shared - done)} shared with earlier studies, "
            f"{len(waiting)} to do, about {seconds / 3600:.1f} core hours"
        )
    hours = total_s / processes / 3600
    lines.append(f"{len(seen)} distinct runs in total; about {hours:.1f} hours with --processes {processes}")
    return "\n".join(lines) + "\n"


def seconds_of(run: Run) -> float:
    """Estimated seconds of a run on one otherwise idle core."""
    rate = _RATES.get(Path(run.cell.recipe).stem, _RATE_OF_OTHERS)
    steps_ratio: float = run.settings.get("refinement.steps", _STEPS_OF_RATES) / _STEPS_OF_RATES
    images: int = run.settings.get("training.steps", 0) * run.settings["training.batch_size"]
    return _OVERHEAD_S + images / rate * (_WITHOUT_UNET + (1 - _WITHOUT_UNET) * steps_ratio)
