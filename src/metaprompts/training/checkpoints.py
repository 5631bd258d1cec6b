"""The checkpoints of a run; resuming from the newest intact one gives the same result as an uninterrupted run."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch

from metaprompts.data.datasets.views import SkipBadSamples
from metaprompts.data.sample import SampleDataset
from metaprompts.errors import InputError
from metaprompts.recipes.recipe import Recipe
from metaprompts.training.distributed import DistributedContext
from metaprompts.training.lr_schedule import describe_schedule
from metaprompts.training.train_state import History, RunState
from metaprompts.utils.checkpoint_files import (
    check_parts,
    check_tensors,
    checkpoint_path,
    checkpoints_in,
    first_whole_state,
    restoring,
    write_state,
)

logger = logging.getLogger(__name__)

Resume = Literal["ask", "auto", "never"]
"""How to treat an unfinished run in the folder: raise an error, resume it, or start over."""

# Keys that may change between stopping and resuming a run: they do not change the result, except for rounding.
_FREE = {
    "backbone": ("latent_cache",),
    "data": ("root", "shards", "num_workers", "prefetch", "max_bad_samples", "cache"),
    "training": (
        *("output_dir", "device", "num_threads", "val_batch_size", "checkpoint_seconds", "save_total_limit"),
        *("micro_batch_size", "fsdp", "compile", "report_to"),
    ),
}
# Keys that error messages suggest changing; training differs from then on, which a warning reports.
_CURES = (
    *("data.on_error", "optimizer.max_grad_norm", "optimizer.lr"),
    *("training.early_stopping", "training.validate_every"),
)
# The length of the run; from then on the schedule follows the new length, which a warning reports.
_LENGTH = ("training.steps", "training.epochs")


class Checkpoints:
    """The checkpoints of one run, in OUT/checkpoints.

    Args:
        recipe: recipe of the run; must match the checkpoint's recipe, except for keys that depend on folders or
            machines
        steps: number of steps of the whole run
        samples: the training samples
        dist: the processes; rank 0 writes
    """

    def __init__(self, recipe: Recipe, steps: int, samples: SampleDataset, dist: DistributedContext) -> None:
        self._recipe, self._steps, self._samples, self._dist = recipe, steps, samples, dist
        self._folder = recipe.training.output_dir / "checkpoints"
        self._found: tuple[Path, dict[str, Any]] | None = None

    def find(self, resume: Resume) -> bool:
        """Read the newest intact checkpoint, if the run is to be resumed; removes nothing.

        Returns:
            whether `restore` will load a checkpoint

        Raises:
            InputError: there is an unfinished run and ``resume`` is "ask"; all checkpoints are damaged; or processes
                see different checkpoints
        """
        found = None if resume == "never" else first_whole_state(checkpoints_in(self._folder))
        # No process may write or remove files before all have read them.
        self._check_same_names(self._dist.gather(None if found is None else found[0].name))
        if found is not None:
            with restoring(found[0]):
                _check_facts(found[1])
        is_finished = found is not None and bool(found[1]["finished"])
        if found is None or (is_finished and resume == "ask"):
            return False
        if resume == "ask":
            state = found[1]
            raise InputError(
                f"{self._folder.parent} holds a run that stopped at step {state['step']} of {state['steps']}: pass "
                "--resume auto to resume, --resume never to start over, or choose another --training.output_dir"
            )
        self._found = found
        return True

    def restore(self, train_state: RunState) -> None:
        """Load the checkpoint that `find` read into ``train_state``; without one, remove those of earlier runs.

        Raises:
            InputError: the recipe or the number of images differs, or the checkpoint does not fit the model
        """
        # The tensors are in memory only as long as they are needed.
        found, self._found = self._found, None
        if found is None:
            self._remove(checkpoints_in(self._folder))
            return
        path, state = found
        with restoring(path):
            # Checkpoints of older versions may lack keys, which then get their defaults.
            found_recipe = Recipe.from_dict(state["recipe"]).to_dict()
        is_changed = self._check_same_recipe(found_recipe, path)
        self._check_same_images(state["images"], path)
        self._check_length(state, path)
        train_state.is_finished = bool(state["finished"]) and not is_changed and state["steps"] == self._steps
        # Damaged checkpoints would be mistaken for checkpoints newer than those still to be written.
        self._remove(newer for newer in checkpoints_in(self._folder) if newer > path)
        with restoring(path):
            train_state.step = state["step"]
            train_state.history = History(**state["history"])
            if not train_state.is_finished:
                train_state.load(state["state"])
                self._restore_rng_states(state["rng_state"])
                if isinstance(self._samples, SkipBadSamples):
                    self._samples.note(state["skipped"])

    def save(self, train_state: RunState, *, finished: bool = False) -> None:
        """Write a checkpoint, then remove outdated checkpoints; all processes must call this.

        A finished run keeps one checkpoint, from which it can be extended by more steps.

        Raises:
            InputError: the checkpoint cannot be written; earlier checkpoints are kept
        """
        skipped = skipped_by_all(self._samples, self._dist) or []
        state, generators = train_state.state(), self._dist.gather(rng_state())
        if not self._dist.is_first:
            return
        content = {
            "step": train_state.step,
            "steps": self._steps,
            "images": len(self._samples),
            "recipe": self._recipe.to_dict(),
            "history": asdict(train_state.history),
            "state": state,
            "rng_state": generators,
            "skipped": skipped,
            "finished": finished,
        }
        write_state(checkpoint_path(self._folder, train_state.step), content)
        self._remove(checkpoints_in(self._folder)[1 if finished else self._recipe.training.save_total_limit :])

    def _remove(self, paths: Iterable[Path]) -> None:
        if self._dist.is_first:
            for path in paths:
                path.unlink()

    def _restore_rng_states(self, of_processes: Sequence[Mapping[str, Any]]) -> None:
        if len(of_processes) != self._dist.count:
            logger.warning(
                "the checkpoint comes from %d processes, and this run has %d: from here on dropout draws different "
                "numbers, batch norm sees different micro-batches unless it is synchronized or frozen, and sums round "
                "differently",
                len(of_processes),
                self._dist.count,
            )
        if self._dist.rank < len(of_processes):
            restore_rng_state(of_processes[self._dist.rank])

    def _check_same_recipe(self, found: Mapping[str, Any], path: Path) -> bool:
        """Check that the recipe matches that of the checkpoint; return whether a key that may change differs."""
        changed = [key for key in changed_keys(found, self._recipe.to_dict()) if key not in _LENGTH]
        if refused := [key for key in changed if key not in _CURES]:
            raise InputError(
                f"{path} differs from this run in {', '.join(refused)}: use the same value, or pass --resume never to "
                "start over"
            )
        if changed and self._dist.is_first:
            logger.warning("resuming with a different %s", ", ".join(changed))
        return bool(changed)

    def _check_length(self, state: Mapping[str, Any], path: Path) -> None:
        """Check that the run is longer than the steps already done, and report the effect of a new length."""
        step, steps = state["step"], state["steps"]
        if steps == self._steps:
            return
        if self._steps < step:
            raise InputError(
                f"{path} has {step} steps already, but this run would have {self._steps}: give more "
                "(--training.steps), or pass --resume never to start over"
            )
        if self._dist.is_first:
            schedule = describe_schedule(
                self._recipe.schedule, min(step, self._steps - 1), steps=self._steps, lr=self._recipe.optimizer.lr
            )
            logger.warning("resuming from step %d to %d, not to %d as before: %s", step, self._steps, steps, schedule)

    def _check_same_images(self, found: int, path: Path) -> None:
        if found != len(self._samples):
            raise InputError(
                f"{path} comes from a run on {found} images, but the data now has {len(self._samples)}: use the same "
                "data, or pass --resume never to start over"
            )

    def _check_same_names(self, names: Sequence[str | None]) -> None:
        if len(set(names)) > 1:
            found = ", ".join(name or "none" for name in names)
            raise InputError(
                f"the processes found different checkpoints in {self._folder} ({found}): training.output_dir must be "
                "one folder that all processes share"
            )


def skipped_by_all(samples: SampleDataset, dist: DistributedContext) -> list[int] | None:
    """The indices of bad samples found by any process; all processes must call this.

    Returns:
        None if bad samples are not skipped
    """
    if not isinstance(samples, SkipBadSamples):
        return None
    found = {place for places in dist.gather(samples.bad) for place in places}
    samples.note(found)
    return sorted(found)


def changed_keys(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """The keys in which two recipes differ, in command-line spelling, except keys that may change during a run."""
    return [
        f"{section}.{key}"
        for section in sorted({*found, *expected})
        for key in sorted({*found.get(section, {}), *expected.get(section, {})})
        if key not in _FREE.get(section, ()) and found.get(section, {}).get(key) != expected.get(section, {}).get(key)
    ]


def _check_facts(state: Mapping[str, Any]) -> None:
    """Check that a checkpoint has all its parts."""
    check_parts(state, ("step", "steps", "images", "recipe", "history", "state", "rng_state", "skipped", "finished"))
    numbers = {name: state[name] for name in ("step", "steps", "images")}
    if any(type(number) is not int or number < 0 for number in numbers.values()):
        raise InputError(f"its counts are {numbers}; expected whole numbers")


def rng_state() -> dict[str, Any]:
    """The state of the generators that dropout uses; data order and augmentation are determined by seed and step."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_rng_state(state: Mapping[str, Any]) -> None:
    """Restore the generators to a state that `rng_state` returned."""
    check_parts(state, ("cpu", "cuda"))
    check_tensors({"cpu": state["cpu"]}, {"cpu": torch.get_rng_state()}, "rng_state")
    torch.set_rng_state(state["cpu"])
    # The machine that wrote the checkpoint may have had a different number of GPUs, or none.
    for number, of_gpu in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(of_gpu, number)
