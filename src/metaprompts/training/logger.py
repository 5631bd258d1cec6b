"""All that a training tells of itself while it runs: log.jsonl always, TensorBoard and its like where wanted."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metaprompts.errors import InputError
from metaprompts.utils.files import json_line, write_text
from metaprompts.utils.wording import counted
from metaprompts.visualize.text import Picture

if TYPE_CHECKING:
    from accelerate import Accelerator

    from metaprompts.recipes.recipe import Recipe
    from metaprompts.training.distributed import Team
    from metaprompts.training.train_state import Trainee

LOG_FILE = "log.jsonl"
TRACKED_FOLDER = "tensorboard"
_PROJECT = "metaprompts"

logger = logging.getLogger(__name__)


class Diary:
    """Writes down nothing: what all processes but the first keep."""

    tracks = False
    """Whether somebody wants pictures."""

    def step(self, step: int, losses: Mapping[str, float], *, seconds: float, waited: float) -> None:
        """Note a step: the learning rate and losses by name, how long it took, and how much of that was waiting."""

    def validation(self, step: int, scores: Mapping[str, Any]) -> None:
        """Note a validation's scores."""

    def stopped_early(self, step: int, patience: int) -> None:
        """Note that so many validations in a row were no better."""

    def pictures(self, step: int, pictures: Mapping[str, Picture]) -> None:
        """Note pictures (H, W, 3) by name."""


class WrittenDiary(Diary):
    """Writes everything down.

    Args:
        log: gets it all but pictures
        accelerator: knows the trackers
    """

    def __init__(self, log: "StepLog", accelerator: "Accelerator") -> None:
        self._log = log
        self._accelerator = accelerator
        self.tracks = bool(accelerator.trackers)

    def step(self, step: int, losses: Mapping[str, float], *, seconds: float, waited: float) -> None:
        """Note a step."""
        self._log.add(step, {**losses, "seconds": seconds, "waited": waited})
        times = {"seconds": seconds, "waited": waited}
        self._track(step, {f"training/{name}": value for name, value in {**losses, **times}.items()})

    def validation(self, step: int, scores: Mapping[str, Any]) -> None:
        """Note a validation."""
        self._log.add(step, {"validation": scores})
        numbers = {name: value for name, value in scores.items() if isinstance(value, int | float)}
        self._track(step, {f"validation/{name}": value for name, value in numbers.items()})

    def stopped_early(self, step: int, patience: int) -> None:
        """Note an early stop."""
        self._log.add(step, {"early_stopping": patience})

    def pictures(self, step: int, pictures: Mapping[str, Picture]) -> None:
        """Note pictures."""
        for tracker in self._accelerator.trackers:
            if not hasattr(tracker, "log_images"):
                continue
            layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            images = {name: np.stack([picture]) for name, picture in pictures.items()}
            with _naming(tracker.name):
                tracker.log_images(images, step=step, **layout)

    def _track(self, step: int, values: Mapping[str, float]) -> None:
        for tracker in self._accelerator.trackers:
            with _naming(tracker.name):
                tracker.log(dict(values), step=step)


@contextmanager
def _naming(tracker: str) -> Iterator[None]:
    """Say which tracker could not write: the disk may be full, or its server gone."""
    try:
        yield
    except Exception as error:  # each tracker has its own: TensorBoard's is an AttributeError where the disk is full
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())[:200]
        raise InputError(
            f"{tracker} cannot write ({reason or type(error).__name__}): make room, or say --training.trackers none; "
            "then --resume auto"
        ) from error


@contextmanager
def diary(recipe: "Recipe", team: "Team", trainee: "Trainee") -> Iterator[Diary]:
    """Open the diary of a training; what was noted of steps, or a validation, that are still to come is dropped.

    Raises:
        InputError: a file cannot be written, or a tracker cannot be started
    """
    if not team.is_first:
        yield Diary()
        return
    log = StepLog(recipe.training.out / LOG_FILE, trainee.step, owes_validation=trainee.owes_validation)
    try:
        _start_trackers(team.accelerator, recipe, trainee.step)
        yield WrittenDiary(log, team.accelerator)
    finally:
        log.close()
        # There are none where they could not be started.
        for tracker in getattr(team.accelerator, "trackers", []):
            with _naming(tracker.name):
                tracker.finish()
        team.accelerator.trackers = []


def refuse_missing_trackers(names: tuple[str, ...] | None) -> None:
    """Check that trackers are installed.

    Raises:
        InputError: one is not
    """
    from accelerate.tracking import get_available_trackers

    installed = [str(tracker) for tracker in get_available_trackers()]
    if missing := [name for name in names or () if name not in installed]:
        raise InputError(
            f"training.trackers names {', '.join(missing)}, which is not installed: pip install {' '.join(missing)}, "
            "or leave it out (--training.trackers none for no tracker)"
        )


def _start_trackers(accelerator: "Accelerator", recipe: "Recipe", step: int) -> None:
    # Of a training that was killed TensorBoard may know steps that will be taken again.
    options = {"tensorboard": {"purge_step": step + 1}}
    try:
        accelerator.init_trackers(_PROJECT, config=_flat(recipe), init_kwargs=options)
    except Exception as error:  # each tracker has its own: no network, no account, ...
        raise InputError(
            f"cannot start {', '.join(map(str, accelerator.log_with))}: {' '.join(str(error).split())[:200]}; "
            "mend it, or say --training.trackers none"
        ) from error


def _flat(recipe: "Recipe") -> dict[str, Any]:
    return {
        f"{section}.{key}": value if isinstance(value, bool | int | float | str) else str(value)
        for section, values in recipe.plain().items()
        for key, value in values.items()
    }


class StepLog:
    """A file that gets a line for each step and each validation as soon as it is over.

    Lines hold "step"; a step's also "lr", "total", the parts of the loss, "seconds", and "waited", those of them that
    were spent waiting for pictures; a validation's hold the scores under "validation".

    Args:
        path: the file
        step: steps taken so far; what a killed training wrote of later ones is dropped
        owes_validation: whether what it wrote of the validation after this one is dropped, too

    Raises:
        InputError: the file cannot be read or written
    """

    def __init__(self, path: Path, step: int, *, owes_validation: bool = False) -> None:
        self._path = path
        validated = step - 1 if owes_validation else step
        lines = [line for line in read_lines(path) if line["step"] <= (validated if "validation" in line else step)]
        write_text(path, "".join(map(json_line, lines)))
        with self._naming():
            self._file = path.open("a", encoding="utf-8", buffering=1)

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Append a line.

        Raises:
            InputError: it cannot be written
        """
        with self._naming():
            self._file.write(json_line({"step": step, **values}))

    def close(self) -> None:
        """Close the file.

        Raises:
            InputError: what is left in memory cannot be written
        """
        with self._naming():
            self._file.close()

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"cannot write {self._path}: {error.strerror}; make room, and --resume auto") from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; a last one that was cut off is left out, and damaged ones are, too, with a warning.

    Raises:
        InputError: the file cannot be read
    """
    try:
        content = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    whole = content[: content.rfind(b"\n") + 1].splitlines()
    lines = [values for line in whole if (values := _values(line)) is not None]
    if len(lines) < len(whole):
        logger.warning("%s has %s: left out", path, counted(len(whole) - len(lines), "damaged line"))
    return lines


def _values(line: bytes) -> dict[str, Any] | None:
    """What a line says; None where it is damaged."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or type(values.get("step")) is not int:
        return None
    scores = values.get("validation", {})
    numbers = [value for key, value in values.items() if key != "validation"]
    is_whole = isinstance(scores, dict) and all(isinstance(value, int | float | None) for value in numbers)
    return values if is_whole else None
