"""TensorBoard, Weights & Biases and the other trackers that accelerate supports."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from metaprompts.errors import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from metaprompts.recipes.recipe import Recipe

TRACKED_FOLDER = "tensorboard"
_PROJECT = "metaprompts"


@contextmanager
def naming_tracker(tracker: str) -> Iterator[None]:
    """Name the tracker that could not write: the disk may be full, or its server down."""
    try:
        yield
    except Exception as error:  # TensorBoard raises AttributeError if the disk is full
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())[:200]
        raise InputError(
            f"{tracker} cannot write ({reason or type(error).__name__}): free up space, or pass --training.report_to "
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
            "or leave it out (--training.report_to none uses no tracker)"
        )


def start_trackers(accelerator: "Accelerator", recipe: "Recipe", step: int) -> None:
    """Start the trackers of a run that resumes after a step.

    Raises:
        InputError: a tracker cannot be started
    """
    # TensorBoard may contain steps of a killed run that will be repeated.
    options = {"tensorboard": {"purge_step": step + 1}}
    try:
        accelerator.init_trackers(_PROJECT, config=_flat(recipe), init_kwargs=options)
    except Exception as error:  # each tracker raises its own errors: no network, no account, ...
        raise InputError(
            f"cannot start {', '.join(map(str, accelerator.log_with))}: {' '.join(str(error).split())[:200]}; fix it, "
            "or pass --training.report_to none"
        ) from error


def _flat(recipe: "Recipe") -> dict[str, Any]:
    return {
        f"{section}.{key}": value if isinstance(value, bool | int | float | str) else str(value)
        for section, values in recipe.to_dict().items()
        for key, value in values.items()
    }
