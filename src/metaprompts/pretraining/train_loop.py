"""A training loop that can be stopped at any time and resumes with the same result."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from metaprompts.errors import InputError
from metaprompts.pretraining.config import Learning
from metaprompts.recipes.sections import Optimizer
from metaprompts.training.data_parallel import SINGLE_PROCESS, ProcessGroup
from metaprompts.training.ema import WeightAverage
from metaprompts.training.logger import JsonlFile
from metaprompts.training.lr_schedule import fall_start, learning_rate
from metaprompts.training.optimizer import make_optimizer
from metaprompts.training.train_state import TrainState
from metaprompts.training.train_step import apply_learning_rate, check_finite, optimizer_step
from metaprompts.utils.callbacks import Callback
from metaprompts.utils.checkpoint_files import (
    check_parts,
    checkpoint_path,
    checkpoints_in,
    first_whole_state,
    restoring,
    write_state,
)

logger = logging.getLogger(__name__)


class Objective(Protocol):
    """The objective of a stage: a model and its losses."""

    @property
    def model(self) -> nn.Module:
        """The model to train."""

    def losses(self, step: int) -> dict[str, Tensor]:
        """The loss terms of one step, counted from 0; all random numbers come from `step_generators`."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The training config for an objective.

    Attributes:
        settings: length, learning rate and averaging
        seed: random seed
        folder: output folder for checkpoints and losses.jsonl
        identity: plain values that a checkpoint must match
        checkpoint_seconds: time between checkpoints
        process_group: the processes that train together; only rank 0 writes to the folder
    """

    settings: Learning
    seed: int
    folder: Path
    identity: Mapping[str, Any]
    checkpoint_seconds: float
    process_group: ProcessGroup = SINGLE_PROCESS


def step_generators(seed: int, step: int) -> tuple[np.random.Generator, torch.Generator]:
    """The generators of one step, which depend only on seed and step, so that no generator state is saved."""
    numbers = np.random.default_rng((seed, step))
    return numbers, torch.Generator().manual_seed(int(numbers.integers(2**63)))


def train(
    objective: Objective,
    train_config: TrainConfig,
    progress: Callback,
    after_step: Callable[[int, WeightAverage], None] = lambda step, average: None,
) -> None:
    """Train to the end, resuming where an earlier call stopped; afterwards the model has its averaged weights.

    Args:
        objective: the objective, whose model is trained
        train_config: the training config
        progress: called at every step
        after_step: called with the number of steps taken and the averaged weights, before they are saved

    Raises:
        InputError: the checkpoints are damaged or belong to a different model, or the loss is non-finite
    """
    settings, is_first = train_config.settings, train_config.process_group.is_first
    average = WeightAverage(objective.model, settings.ema_decay, begins=1)
    train_state = new_state(objective.model, settings, average)
    resume(train_state, train_config)
    due = (settings.steps, fall_start(settings.steps, settings.decay_fraction))
    saved = time.monotonic()
    log = JsonlFile(train_config.folder / "losses.jsonl", train_state.step) if is_first else None
    progress.on_train_begin(train_state.model, settings.steps)
    try:
        while train_state.step < settings.steps:
            started = time.perf_counter()
            losses, lr = _take_step(objective, train_config, train_state)
            seconds = time.perf_counter() - started
            if log:
                after_step(train_state.step, average)
                log.add(train_state.step, {"lr": lr, **losses})
                if train_state.step in due or time.monotonic() - saved >= train_config.checkpoint_seconds:
                    save(train_state, train_config)
                    saved = time.monotonic()
            progress.on_step_end(
                train_state.model, train_state.step, losses, lr=lr, images=settings.batch_size, seconds=seconds
            )
    finally:
        progress.on_train_end()
        if log:
            log.close()
    average.swap()


def _take_step(
    objective: Objective, train_config: TrainConfig, train_state: TrainState
) -> tuple[dict[str, float], float]:
    settings = train_config.settings
    lr = learning_rate(train_state.step, steps=settings.steps, lr=settings.lr, schedule=settings.schedule)
    apply_learning_rate(train_state.optimizer, lr)
    one_pass = partial(objective.losses, train_state.step)
    losses = optimizer_step(
        train_state.model, train_state.optimizer, [one_pass], settings.max_grad_norm, train_config.process_group
    )
    cure = f"delete {train_config.folder} and start the stage over with a lower learning rate"
    check_finite(losses, train_state.step + 1, cure)
    train_state.after_step()
    return losses, lr


def new_state(model: nn.Module, settings: Learning, average: WeightAverage) -> TrainState:
    """A model with AdamW, before the first step."""
    rules = Optimizer(lr=settings.lr, weight_decay=settings.weight_decay, decay_bias_and_norm=False)
    return TrainState(model, make_optimizer(model, rules), average)


def save(train_state: TrainState, train_config: TrainConfig) -> None:
    """Write the newest checkpoint; keep the previous checkpoint, and the last one before the learning rate fell."""
    settings, folder = train_config.settings, train_config.folder
    newest = checkpoint_path(folder, train_state.step)
    # Random numbers depend only on seed and step.
    facts = {"step": train_state.step, "steps": settings.steps, "decay_fraction": settings.decay_fraction}
    write_state(newest, {**train_state.state(), **facts, "identity": dict(train_config.identity)})
    before_fall = checkpoint_path(folder, fall_start(settings.steps, settings.decay_fraction))
    former = [path for path in checkpoints_in(folder) if path < newest][:1]
    for path in {*checkpoints_in(folder)} - {newest, before_fall, *former}:
        path.unlink()


def resume(train_state: TrainState, train_config: TrainConfig) -> None:
    """Resume from the newest intact checkpoint, if any.

    If it belongs to a shorter run whose learning rate had begun to fall, resume from the last checkpoint before the
    fall: an extended run then gives the same result as a run that had the new length from the start.

    Raises:
        InputError: all checkpoints are damaged, or belong to a different model or an earlier version
    """
    paths = checkpoints_in(train_config.folder)
    found = _first_whole(paths, train_config)
    if found is None:
        return
    path, state = found
    fall = fall_start(state["steps"], state["decay_fraction"])
    if state["step"] > fall and train_config.settings.steps > state["steps"]:
        early = [each for each in paths if each <= checkpoint_path(train_config.folder, fall)]
        before = _first_whole(early, train_config)
        if before is None:
            logger.warning("no checkpoint from before the learning rate fell: the learning rate rises again")
        path, state = before or found
    with restoring(path):
        train_state.load(state)
        train_state.step = state["step"]


def _first_whole(paths: Iterable[Path], train_config: TrainConfig) -> tuple[Path, dict[str, Any]] | None:
    found = first_whole_state(paths)
    if found is not None:
        _check_facts(*found, train_config)
    return found


def _check_facts(path: Path, state: Mapping[str, Any], train_config: TrainConfig) -> None:
    found = state.get("identity")
    if not isinstance(found, dict):
        raise InputError(f"{path} is not a pre-training checkpoint: delete it to start over")
    with restoring(path):
        check_parts(state, ("step", "steps", "decay_fraction"))
        numbers = {name: state[name] for name in ("step", "steps", "decay_fraction")}
        if any(type(number) not in (int, float) or number < 0 for number in numbers.values()):
            raise InputError(f"its step counts are {numbers}; expected none below 0")
    keys = sorted({*found, *train_config.identity})
    if other := [key for key in keys if found.get(key) != train_config.identity.get(key)]:
        raise InputError(
            f"{path} differs from this run in {', '.join(other)}: choose another run folder, or delete "
            f"{train_config.folder} to start the stage over"
        )
    optimizer = state.get("optimizer")
    moments = optimizer.get("state") if isinstance(optimizer, dict) else None
    if isinstance(moments, dict) and any(isinstance(name, int) for name in moments):
        raise InputError(
            f"{path} was written by an earlier version, which numbered the optimizer's parameters; expected their "
            f"names: delete {train_config.folder} to start the stage over"
        )
