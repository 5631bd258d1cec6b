"""The state of a run on disk: the newest, the one before it, and the last one before the learning rate fell."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from metaprompts.errors import InputError
from metaprompts.pretraining.config import Learning
from metaprompts.recipes.sections import Optimizer
from metaprompts.training.ema import decay_at
from metaprompts.training.lr_schedule import fall_start
from metaprompts.training.optimizer import make_optimizer
from metaprompts.utils.checkpoint_files import (
    check_moments,
    check_parts,
    check_tensors,
    first_whole_state,
    restoring,
    write_state,
)

_Tensors = tuple[Tensor, ...] | list[Tensor]

logger = logging.getLogger(__name__)

_NEWEST, _FORMER, _BEFORE_FALL = "checkpoint.pt", "former.pt", "before_fall.pt"


@dataclass
class TrainState:
    """A model in training.

    Attributes:
        model: the weights that the optimizer changes
        average: their running average
        optimizer: AdamW with its moments
        step: optimizer steps taken
    """

    model: nn.Module
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    step: int = 0

    @classmethod
    def start(cls, model: nn.Module, settings: Learning) -> "TrainState":
        """Begin with a model as it is."""
        rules = Optimizer(lr=settings.lr, weight_decay=settings.weight_decay, decay_bias_and_norm=False)
        average = AveragedModel(model, multi_avg_fn=_Average(settings.ema_decay))
        return cls(model, average, make_optimizer(model, rules))

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, except random numbers, which follow from the step."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a `state`.

        Raises:
            InputError: a part or a tensor is missing or of another shape
        """
        check_parts(state, ("step", "model", "average", "optimizer"))
        check_tensors(state["model"], self.model.state_dict(), "model")
        check_tensors(state["average"], self.average.state_dict(), "average")
        parameters = [each for group in self.optimizer.param_groups for each in group["params"]]
        check_moments(state["optimizer"], dict(enumerate(parameters)))
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
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
        """Write the newest checkpoint, whole, and keep the one before it."""
        newest = self._folder / _NEWEST
        state = {
            **train_state.state(),
            "steps": settings.steps,
            "decay_fraction": settings.decay_fraction,
            "identity": self._identity,
        }
        if newest.exists():
            newest.replace(self._folder / _FORMER)
        write_state(newest, state)
        if train_state.step == fall_start(settings.steps, settings.decay_fraction):
            write_state(self._folder / _BEFORE_FALL, state)

    def resume(self, train_state: TrainState, settings: Learning) -> None:
        """Continue from the newest checkpoint that is whole, if there is any.

        Where it was made with fewer steps in mind and its learning rate had begun to fall, from the last one before
        that: so a run that is made longer ends as one that was as long from the start.

        Raises:
            InputError: all checkpoints are damaged, or they are of another model
        """
        found = self._first_whole(_NEWEST, _FORMER)
        if found is None:
            return
        path, state = found
        begun_to_fall = state["step"] > fall_start(state["steps"], state["decay_fraction"])
        if begun_to_fall and settings.steps > state["steps"]:
            before = self._first_whole(_BEFORE_FALL)
            if before is None:
                logger.warning("no checkpoint from before the learning rate fell: it rises again")
            path, state = before or found
        with restoring(path):
            train_state.restore(state)

    def _first_whole(self, *names: str) -> tuple[Path, dict[str, Any]] | None:
        found = first_whole_state(self._folder / name for name in names)
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


class _Average:
    """An exponential average that forgets its beginning."""

    def __init__(self, decay: float) -> None:
        self._decay = decay

    @torch.no_grad()
    def __call__(self, averages: _Tensors, values: _Tensors, count: Tensor | int) -> None:
        torch._foreach_lerp_(averages, values, 1 - decay_at(int(count), self._decay))
