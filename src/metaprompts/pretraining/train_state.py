"""The state of a pre-training stage: model, average and optimizer, in memory and on disk."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from metaprompts.errors import InputError
from metaprompts.pretraining.config import Learning
from metaprompts.recipes.sections import Optimizer
from metaprompts.training.ema import WeightAverage
from metaprompts.training.lr_schedule import fall_start
from metaprompts.training.optimizer import make_optimizer
from metaprompts.utils.checkpoint_files import (
    check_moments,
    check_parts,
    check_tensors,
    checkpoint_path,
    checkpoints_in,
    first_whole_state,
    restoring,
    write_state,
)

logger = logging.getLogger(__name__)


class TrainState:
    """A model in training.

    Args:
        model: the weights that the optimizer changes
        settings: settings of the optimizer and the average

    Attributes:
        average: the weights' running average
        optimizer: AdamW with its moments
        step: optimizer steps taken
    """

    def __init__(self, model: nn.Module, settings: Learning) -> None:
        self.model = model
        self.average = WeightAverage(model, settings.ema_decay)
        rules = Optimizer(lr=settings.lr, weight_decay=settings.weight_decay, decay_bias_and_norm=False)
        self.optimizer = make_optimizer(model, rules)
        self.step = 0

    def after_step(self) -> None:
        """Count an optimizer step; the average begins with the weights after the first."""
        self.average.update(self.step)
        self.step += 1

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, except random numbers, which follow from the step."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.state(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a `state`.

        Raises:
            InputError: a part or a tensor is missing or of another shape
        """
        check_parts(state, ("step", "model", "average", "optimizer"))
        check_tensors(state["model"], self.model.state_dict(), "model")
        check_tensors(state["average"], self.average.state(), "average")
        parameters = [each for group in self.optimizer.param_groups for each in group["params"]]
        check_moments(state["optimizer"], dict(enumerate(parameters)))
        self.model.load_state_dict(state["model"])
        self.average.load(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


class Checkpoints:
    """The checkpoints of one stage.

    Args:
        folder: where they are
        identity: plain values that a checkpoint must have been made with
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self._folder = folder
        self._identity = dict(identity)

    def save(self, train_state: TrainState, settings: Learning) -> None:
        """Write the newest checkpoint; keep the one before it, and the last one before the learning rate fell."""
        facts = {"steps": settings.steps, "decay_fraction": settings.decay_fraction, "identity": self._identity}
        newest = checkpoint_path(self._folder, train_state.step)
        write_state(newest, {**train_state.state(), **facts})
        before_fall = checkpoint_path(self._folder, fall_start(settings.steps, settings.decay_fraction))
        former = [path for path in checkpoints_in(self._folder) if path < newest][:1]
        for path in {*checkpoints_in(self._folder)} - {newest, before_fall, *former}:
            path.unlink()

    def resume(self, train_state: TrainState, settings: Learning) -> None:
        """Continue from the newest checkpoint that is whole, if there is any.

        Where it was made with fewer steps in mind and its learning rate had begun to fall, from the last one before
        that: so a run that is made longer ends as one that was as long from the start.

        Raises:
            InputError: all checkpoints are damaged, or belong to another model
        """
        paths = checkpoints_in(self._folder)
        found = self._first_whole(paths)
        if found is None:
            return
        path, state = found
        fall = fall_start(state["steps"], state["decay_fraction"])
        if state["step"] > fall and settings.steps > state["steps"]:
            before = self._first_whole(each for each in paths if each <= checkpoint_path(self._folder, fall))
            if before is None:
                logger.warning("no checkpoint from before the learning rate fell: it rises again")
            path, state = before or found
        with restoring(path):
            train_state.restore(state)

    def _first_whole(self, paths: Iterable[Path]) -> tuple[Path, dict[str, Any]] | None:
        found = first_whole_state(paths)
        if found is not None:
            self._check(found[1], found[0])
        return found

    def _check(self, state: Mapping[str, Any], path: Path) -> None:
        found = state.get("identity") if isinstance(state, dict) else None
        if not isinstance(found, dict):
            raise InputError(f"{path} is not a pre-training checkpoint: delete it to start over")
        with restoring(path):
            _check_numbers(state)
        keys = sorted({*found, *self._identity})
        if other := [key for key in keys if found.get(key) != self._identity.get(key)]:
            raise InputError(
                f"{path} was made with another {', '.join(other)}: choose another run folder, or delete "
                f"{self._folder} to begin the stage again"
            )


def _check_numbers(state: Mapping[str, Any]) -> None:
    check_parts(state, ("step", "steps", "decay_fraction"))
    numbers = {name: state[name] for name in ("step", "steps", "decay_fraction")}
    if any(type(number) not in (int, float) or number < 0 for number in numbers.values()):
        raise InputError(f"its numbers are {numbers}; expected none below 0")
