"""Plan runs, generate their data, and train them in parallel processes; repeating an interrupted call resumes it."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from metaprompts import __version__
from metaprompts.ablation.results import DIVERGED, Result, forget_results, keep_result, shared_results, training_folder
from metaprompts.ablation.study import SCENES, GeneratedScenes, Run, Study
from metaprompts.errors import SHOWN_BY_DEBUG, InputError
from metaprompts.synthetic.layouts import write_scenes
from metaprompts.training.dataloaders import samples_of
from metaprompts.training.logger import read_lines
from metaprompts.utils.files import read_json, read_text, write_json, write_text
from metaprompts.utils.progress import tracked
from metaprompts.utils.system import versions

# The exit code of the command line for bad input, and the offset of its exit codes for signals.
_BAD_INPUT, _SIGNALED = 2, 128
_LOG = "log.txt"
_POLL_S = 0.1
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

Outcome = Result | str
"""A result; or a message, if a run failed for a reason other than its input (for example memory)."""


def plan_text(studies: Sequence[Study], out: Path, processes: int) -> str:
    """One line per study and one for all studies: runs, finished or shared runs, remaining hours."""
    found = shared_results([run for study in studies for run in study.runs], out).keys()
    lines, seen, total_s = "", set[str](), 0.0
    for study in studies:
        runs = {run.key: run for run in study.runs}
        waiting = [seconds_of(run) for key, run in runs.items() if key not in found | seen]
        lines += (
            f"{study.name}: {len(study.runs)} runs, {len(runs.keys() & found)} done, {len(runs.keys() & seen - found)} "
            f"shared with earlier studies, {len(waiting)} to do, about {sum(waiting) / 3600:.1f} core hours\n"
        )
        seen |= runs.keys()
        total_s += sum(waiting)
    hours = total_s / processes / 3600
    return f"{lines}{len(seen)} distinct runs in total; about {hours:.1f} hours with --processes {processes}\n"


def seconds_of(run: Run) -> float:
    """Estimated seconds of a run on one otherwise idle core."""
    rate = _RATES.get(Path(run.cell.recipe).stem, _RATE_OF_OTHERS)
    steps_ratio: float = run.settings.get("refinement.steps", _STEPS_OF_RATES) / _STEPS_OF_RATES
    images: int = run.settings.get("training.steps", 0) * run.settings["training.batch_size"]
    return _OVERHEAD_S + images / rate * (_WITHOUT_UNET + (1 - _WITHOUT_UNET) * steps_ratio)


def data_folders(
    studies: Iterable[Study], runs: Iterable[Run], given: Mapping[str, Path], out: Path, *, processes: int
) -> dict[str, Path]:
    """The given folders by name, and OUT/data/scenes, where scenes are rendered if runs need them and none are given.

    Raises:
        InputError: the folder holds other files, or a part is larger than every split
    """
    folders = dict(given)
    using = {run.study for run in runs if run.cell.data == SCENES}
    for study in studies:
        if study.scenes and study.name in using and (study.quick or SCENES not in given):
            # A quick study has its own scenes.
            folders[SCENES] = out / "data" / SCENES
            _generate(study.scenes, folders[SCENES], processes, quick=study.quick)
    return folders


def _generate(scenes: GeneratedScenes, folder: Path, processes: int, *, quick: bool) -> None:
    """Render scenes, and write the lists of their parts; only in quick studies may a part be larger than its split."""
    sizes = {"train": scenes.count - scenes.val_count, "val": scenes.val_count}
    too_large = [part for part in scenes.parts if part > max(sizes.values())]
    if too_large and not quick:
        raise InputError(f"scenes.parts has {too_large[0]}, but there are {sizes['train']} scenes to train on")
    progress = partial(tracked, what="rendering scenes")
    count, val_count, seed = scenes.count, scenes.val_count, scenes.seed
    write_scenes("plain", count, folder, val_count=val_count, seed=seed, workers=processes, progress=progress)
    for split, part in ((split, part) for split in sizes for part in scenes.parts if quick or part <= sizes[split]):
        for name in (split, f"depth_{split}"):
            lines = read_text(folder / f"{name}.txt").splitlines(keepends=True)
            write_text(folder / f"{name}_{part}.txt", "".join(lines[:part]))
        people = folder / f"annotations/person_keypoints_{split}.json"
        whole = read_json(people)
        images = whole["images"][:part]
        kept = {image["id"] for image in images}
        annotations = [person for person in whole["annotations"] if person["image_id"] in kept]
        write_json(people.with_stem(f"{people.stem}_{part}"), {**whole, "images": images, "annotations": annotations})


def train_all(
    runs: Sequence[Run], out: Path, roots: Mapping[str, Path], *, processes: int = 1, again: bool = False
) -> Generator[tuple[Run, Outcome], None, None]:
    """Train every run without a result (with ``again``, every run); equal settings, data and seed are trained once.

    Each run has its own process with one thread. Divergence counts as a result. A failed run has no result and does not
    stop the others. Any other error, or closing the generator, stops all runs: those in progress are asked to stop, and
    can be resumed later.

    Yields:
        each run with its outcome; if runs with the same key fail, only the first of them

    Raises:
        InputError: a cell's data is missing or invalid, or a result is damaged or has different settings
    """
    _check_data_exists(runs, roots)
    if again:
        forget_results(runs, out)
    found = shared_results(runs, out)
    waiting: dict[str, list[Run]] = {}
    for run in runs:
        if run.key in found:
            yield run, keep_result(run, out, found[run.key])
        else:
            waiting.setdefault(run.key, []).append(run)
    running: dict[subprocess.Popen[bytes], list[Run]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                sharing = waiting.pop(next(iter(waiting)))
                running[_start(sharing[0], out, roots)] = sharing
            time.sleep(_POLL_S)
            for process in [process for process in running if process.poll() is not None]:
                sharing = running.pop(process)
                outcome = _outcome(sharing[0], training_folder(out, sharing[0]), process.returncode)
                if isinstance(outcome, str):
                    yield sharing[0], outcome
                else:
                    yield from ((run, keep_result(run, out, outcome)) for run in sharing)
    except BaseException:
        # Orphaned processes would collide with those that resume the same runs.
        _end(list(running))
        raise


def _start(run: Run, out: Path, roots: Mapping[str, Path]) -> subprocess.Popen[bytes]:
    """Start or resume training with one thread; the output goes to a file in the run's folder."""
    folder = training_folder(out, run)
    folder.mkdir(parents=True, exist_ok=True)
    words = ["-m", "metaprompts", "train", *run.words(roots[run.cell.data], folder), "--resume", "auto"]
    with (folder / _LOG).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, *words],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            # Ctrl-C and closing the terminal reach only the parent, which then asks the process once to stop.
            start_new_session=True,
        )


def _end(running: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask each process once to stop, and wait for all of them; a second request (Ctrl-C) ends them immediately."""
    try:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
    except KeyboardInterrupt:
        _end(running)


def _check_data_exists(runs: Sequence[Run], roots: Mapping[str, Path]) -> None:
    """Check that the data folders of runs exist and have the files that the recipes name."""
    checked = []
    for run in runs:
        data, where = run.cell.data, f"cell {run.cell.name} of study {run.study}"
        if data not in roots:
            raise InputError(
                f"{where} needs data {data!r}: pass --data {data}=DIR, or skip such cells with --skip-missing-data"
            )
        recipe = run.recipe(roots[data], Path())
        reads = (recipe.data, recipe.task, recipe.prompts.kind)
        if reads in checked:
            continue
        checked.append(reads)
        try:
            samples_of(recipe, "train")
            samples_of(recipe, "val")
            if recipe.prompts.kind == "caption" and recipe.data.captioner is None:
                recipe.data.caption_file()
        except InputError as error:
            raise InputError(f"{where}: {error}") from error


def _outcome(run: Run, folder: Path, returned: int) -> Outcome:
    """The outcome of a run whose process has exited with a code, or with minus the number of the signal that ended it.

    Raises:
        InputError: the run was asked to stop, or its input is invalid
    """
    scores = _divergence(run, folder, returned) if returned else _scores(run, folder)
    if isinstance(scores, str):
        return f"run {run.path} failed ({scores}); see {folder / _LOG}; run the same command again to retry"
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    described = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "cell": run.cell.name,
        "variant": run.variant.name,
        "seed": run.seed,
        **({"quick": True} if run.quick else {}),
        "training": run.key,
        "command": run.command,
        # Ends in "-dirty" if files are changed.
        "commit": described or None,
        "versions": {"metaprompts": __version__, **versions("torch")},
        "settings": run.settings,
        **scores,
    }


def _scores(run: Run, folder: Path) -> Result:
    """The last validation's scores; if the metric is not finite, the run diverged."""
    last = read_json(folder / "metrics.json")["validations"][-1]
    # Includes steps before interruptions.
    seconds = math.fsum(line.get("seconds", 0.0) for line in read_lines(folder / "log.jsonl"))
    facts = {"steps": last.pop("step"), "seconds": round(seconds, 1)}
    # JSON has no NaN, so non-finite numbers are null.
    if last[run.cell.metric] is None or not math.isfinite(last[run.cell.metric]):
        return {**facts, "failed": f"{run.cell.metric} of the last validation is no longer finite", "diverged": True}
    return {**facts, "scores": {name: value for name, value in last.items() if isinstance(value, int | float)}}


def _divergence(run: Run, folder: Path, returned: int) -> Outcome:
    """The divergence that ended a run, or how it failed; see `_outcome`."""
    # The process may have been killed, or have stopped cleanly with a shell's exit code for the signal.
    number = -returned if returned < 0 else returned - _SIGNALED
    if number in (signal.SIGINT, signal.SIGTERM):
        raise InputError(f"run {run.path} was stopped by signal {number}; run the same command again to resume it")
    lines = (folder / _LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    said = lines[-1].replace(str(folder), "OUT") if lines else f"exit code {returned}"
    if DIVERGED in said:
        return {"failed": said, "diverged": True}
    if returned == _BAD_INPUT and not said.endswith(SHOWN_BY_DEBUG):
        raise InputError(f"run {run.path}: {said.removeprefix('error: ')}")
    return said if returned > 0 else f"killed by signal {number}, perhaps out of memory; its last line: {said}"
