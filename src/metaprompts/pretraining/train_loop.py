"""A training loop that can be stopped at any time and resumes with the same result."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from metaprompts.pretraining.config import Learning
from metaprompts.pretraining.train_state import Checkpoints, TrainState
from metaprompts.training.data_parallel import SINGLE_PROCESS, ProcessGroup
from metaprompts.training.ema import WeightAverage
from metaprompts.training.logger import JsonlFile
from metaprompts.training.lr_schedule import fall_start, learning_rate
from metaprompts.training.train_step import apply_learning_rate, check_finite, optimizer_step
from metaprompts.utils.progress import ProgressReporter


class Objective(Protocol):
    """The objective of a stage: a model and its losses."""

    model: nn.Module

    def losses(self, step: int) -> dict[str, Tensor]:
        """The parts of the loss of one step, 0 for the first; all random numbers come from `step_generators`."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Training config of an objective.

    Attributes:
        settings: length, learning rate, average
        seed: random seed
        folder: for checkpoints and losses.jsonl
        identity: plain values that a checkpoint must have been made with
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
    """The generators of one step: they depend only on the seed and the step, so no generator state is saved."""
    numbers = np.random.default_rng((seed, step))
    return numbers, torch.Generator().manual_seed(int(numbers.integers(2**63)))


def train(
    objective: Objective,
    train_config: TrainConfig,
    progress: ProgressReporter,
    after_step: Callable[[int, WeightAverage], None] = lambda step, average: None,
) -> None:
    """Train to the end, resuming where an earlier call stopped; the model then has its averaged weights.

    Args:
        objective: the objective, whose model is trained
        train_config: the training config
        progress: called at every step
        after_step: called with the number of steps taken and the averaged weights, before they are saved

    Raises:
        InputError: the checkpoints are damaged or of another model, or the loss is non-finite
    """
    settings, is_first = train_config.settings, train_config.process_group.is_first
    train_state = TrainState(objective.model, settings)
    checkpoints = Checkpoints(train_config.folder, train_config.identity)
    checkpoints.resume(train_state, settings)
    due = (settings.steps, fall_start(settings.steps, settings.decay_fraction))
    saved = time.monotonic()
    log = JsonlFile(train_config.folder / "losses.jsonl", train_state.step) if is_first else None
    progress.start(settings.steps, train_state.model)
    try:
        while train_state.step < settings.steps:
            started = time.perf_counter()
            losses, lr = _take_step(objective, train_config, train_state)
            seconds = time.perf_counter() - started
            if log:
                after_step(train_state.step, train_state.average)
                log.add(train_state.step, {"lr": lr, **losses})
                if train_state.step in due or time.monotonic() - saved >= train_config.checkpoint_seconds:
                    checkpoints.save(train_state, settings)
                    saved = time.monotonic()
            progress.step(train_state.step, losses, lr=lr, images=settings.batch_size, seconds=seconds)
    finally:
        progress.finish()
        if log:
            log.close()
    train_state.average.swap()


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
    cure = f"delete {train_config.folder} and begin the stage again with a lower learning rate"
    check_finite(losses, train_state.step + 1, cure)
    train_state.after_step()
    return losses, lr
