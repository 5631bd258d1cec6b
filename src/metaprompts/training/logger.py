"""Log the metrics of a run to log.jsonl and, on request, to TensorBoard and other trackers."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metaprompts.errors import InputError, one_line
from metaprompts.utils.files import json_line, write_text
from metaprompts.utils.wording import counted
from metaprompts.visualize.text import ImageArray

if TYPE_CHECKING:
    from accelerate import Accelerator

    from metaprompts.recipes.recipe import Recipe
    from metaprompts.training.train_state import RunState

LOG_FILE = "log.jsonl"
TRACKED_FOLDER = "tensorboard"
_PROJECT = "metaprompts"

logger = logging.getLogger(__name__)


class JsonlFile:
    """A file with one line for each step and each validation, written as soon as it ends.

    All lines have "step". Step lines also have "lr", "total" and the loss terms; during training also "seconds" and
    "waited", the seconds spent waiting for images. Validation lines have the scores under "validation".

    Args:
        path: path of the file
        step: steps taken so far; a killed run's lines for later steps are dropped
        validation_due: whether to also drop the line of the validation after this step

    Raises:
        InputError: the file cannot be read or written
    """

    def __init__(self, path: Path, step: int, *, validation_due: bool = False) -> None:
        self._path = path
        validated = step - 1 if validation_due else step
        lines = [line for line in read_lines(path) if line["step"] <= (validated if "validation" in line else step)]
        write_text(path, "".join(map(json_line, lines)))
        with self._naming():
            self._file = path.open("a", encoding="utf-8", buffering=1)

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Append a line.

        Raises:
            InputError: the line cannot be written
        """
        with self._naming():
            self._file.write(json_line({"step": step, **values}))

    def close(self) -> None:
        """Close the file.

        Raises:
            InputError: buffered lines cannot be written
        """
        with self._naming():
            self._file.close()

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"cannot write {self._path}: {error.strerror}; free up space, then resume with --resume auto"
            ) from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; skips a truncated last line and, with a warning, damaged lines.

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
        logger.warning("%s has %s: skipped", path, counted(len(whole) - len(lines), "damaged line"))
    return lines


def _values(line: bytes) -> dict[str, Any] | None:
    """The content of a line; None if it is damaged."""
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


class MetricLogger:
    """Logs to log.jsonl and to trackers.

    Args:
        log: receives everything except images; None, on non-zero ranks, to log nothing
        trackers: trackers of accelerate

    Attributes:
        tracks: whether images are logged
    """

    def __init__(self, log: JsonlFile | None = None, trackers: Sequence[Any] = ()) -> None:
        self._log = log
        self._trackers = trackers
        self.tracks = bool(trackers)

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Log a step: learning rate, losses by name, duration, and the part of the duration spent waiting."""
        self._add(step, values)
        self._track(step, {f"training/{name}": value for name, value in values.items()})

    def validation(self, step: int, scores: Mapping[str, Any]) -> None:
        """Log a validation's scores."""
        self._add(step, {"validation": scores})
        numbers = {name: value for name, value in scores.items() if isinstance(value, int | float)}
        self._track(step, {f"validation/{name}": value for name, value in numbers.items()})

    def stopped_early(self, step: int, patience: int) -> None:
        """Log the number of consecutive validations without improvement."""
        self._add(step, {"early_stopping": patience})

    def images(self, step: int, images: Mapping[str, ImageArray]) -> None:
        """Log images (H, W, 3) by name."""
        for tracker in self._trackers:
            if not hasattr(tracker, "log_images"):
                continue
            layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            batched = {name: np.stack([image]) for name, image in images.items()}
            with naming_tracker(tracker.name):
                tracker.log_images(batched, step=step, **layout)

    def _add(self, step: int, values: Mapping[str, Any]) -> None:
        if self._log is not None:
            self._log.add(step, values)

    def _track(self, step: int, values: Mapping[str, float]) -> None:
        for tracker in self._trackers:
            with naming_tracker(tracker.name):
                tracker.log(dict(values), step=step)


@contextmanager
def metric_logger(run: "RunState") -> Iterator[MetricLogger]:
    """Open the logger of a run; log lines of steps and validations after the resumed step are dropped.

    Raises:
        InputError: a file cannot be written, or a tracker cannot be started
    """
    if not run.dist.is_first:
        yield MetricLogger()
        return
    accelerator, folder = run.dist.accelerator, run.recipe.training.output_dir
    log = JsonlFile(folder / LOG_FILE, run.step, validation_due=run.validation_due)
    try:
        _start_trackers(accelerator, run.recipe, run.step)
        yield MetricLogger(log, accelerator.trackers)
    finally:
        log.close()
        # If trackers could not be started, there are none to end.
        for tracker in getattr(accelerator, "trackers", []):
            with naming_tracker(tracker.name):
                tracker.finish()
        accelerator.trackers = []


@contextmanager
def naming_tracker(tracker: str) -> Iterator[None]:
    """Name the tracker that could not write: the disk may be full, or its server down."""
    try:
        yield
    except Exception as error:  # TensorBoard raises AttributeError if the disk is full
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)[:200]
        raise InputError(
            f"{tracker} cannot write ({reason}): free up space, or pass --training.report_to "
            "none; then resume with --resume auto"
        ) from error


def check_trackers(names: tuple[str, ...] | None) -> None:
    """Check that trackers are installed.

    Raises:
        InputError: a tracker is not installed
    """
    from accelerate.tracking import get_available_trackers

    installed = [str(tracker) for tracker in get_available_trackers()]
    if missing := [name for name in names or () if name not in installed]:
        raise InputError(
            f"training.report_to names {', '.join(missing)}, which is not installed: pip install {' '.join(missing)}, "
            "or remove it (--training.report_to none uses no tracker)"
        )


def _start_trackers(accelerator: "Accelerator", recipe: "Recipe", step: int) -> None:
    # TensorBoard may contain steps of a killed run that will be repeated.
    options = {"tensorboard": {"purge_step": step + 1}}
    try:
        accelerator.init_trackers(_PROJECT, config=_flat(recipe), init_kwargs=options)
    except Exception as error:  # each tracker raises its own errors: no network, no account, ...
        raise InputError(
            f"cannot start {', '.join(map(str, accelerator.log_with))}: {one_line(error)[:200]}; fix it, "
            "or pass --training.report_to none"
        ) from error


def _flat(recipe: "Recipe") -> dict[str, Any]:
    return {
        f"{section}.{key}": value if isinstance(value, bool | int | float | str) else str(value)
        for section, values in recipe.to_dict().items()
        for key, value in values.items()
    }
