"""A training that can be stopped at any time and goes on as if it had not been."""

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
from metaprompts.pretraining.loss_log import LossLog
from metaprompts.pretraining.train_state import Checkpoints, Learner
from metaprompts.training.data_parallel import ALONE, Peers
from metaprompts.training.lr_schedule import fall_start, learning_rate
from metaprompts.training.train_step import apply_learning_rate, optimizer_step, refuse_non_finite
from metaprompts.utils.progress import Progress


class Lesson(Protocol):
    """What a stage teaches, and to whom."""

    model: nn.Module

    def losses(self, step: int) -> dict[str, Tensor]:
        """The parts of the loss of one step, 0 for the first; all chance is drawn from `step_generators`."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a lesson is taught.

    Attributes:
        settings: length, learning rate, average
        seed: of all chance
        folder: for checkpoints and losses.jsonl
        identity: plain values that a checkpoint must have been made with
        checkpoint_seconds: time between checkpoints
        peers: those who learn it together; only the first of them writes to the folder
    """

    settings: Learning
    seed: int
    folder: Path
    identity: Mapping[str, Any]
    checkpoint_seconds: float
    peers: Peers = ALONE


def step_generators(seed: int, step: int) -> tuple[np.random.Generator, torch.Generator]:
    """The chance of one step: it depends on nothing but the seed and the step, so nothing of it has to be saved."""
    numbers = np.random.default_rng((seed, step))
    return numbers, torch.Generator().manual_seed(int(numbers.integers(2**63)))


def learn(
    lesson: Lesson,
    course: Course,
    progress: Progress,
    after_step: Callable[[int, nn.Module], None] = lambda step, average: None,
) -> nn.Module:
    """Teach to the end, from where an earlier call got to.

    Args:
        lesson: its model is changed
        course: how
        progress: is told of every step
        after_step: is given the number of steps taken and the averaged model, before they are saved

    Returns:
        the averaged model

    Raises:
        InputError: the checkpoints are damaged or of another model, or the loss is no longer finite
    """
    settings = course.settings
    learner = Learner.start(lesson.model, settings)
    diary = _Diary(course, learner)
    progress.start(settings.steps, learner.model)
    try:
        while learner.step < settings.steps:
            started = time.perf_counter()
            losses, lr = _take_step(lesson, course, learner)
            seconds = time.perf_counter() - started
            if course.peers.is_first:
                after_step(learner.step, learner.average.module)
                diary.note(losses, lr)
            progress.step(learner.step, losses, lr=lr, pictures=settings.batch_size, seconds=seconds)
    finally:
        progress.finish()
    return learner.average.module


class _Diary:
    """Brings a learner to where an earlier call got to, and keeps losses and checkpoints from there on."""

    def __init__(self, course: Course, learner: Learner) -> None:
        self._course = course
        self._learner = learner
        self._checkpoints = Checkpoints(course.folder, course.identity)
        self._checkpoints.resume(learner, course.settings)
        self._log = LossLog(course.folder / "losses.jsonl", learner.step)
        self._saved = time.monotonic()

    def note(self, losses: dict[str, float], lr: float) -> None:
        """Note what a step lost, and save where it is time."""
        settings, step = self._course.settings, self._learner.step
        self._log.add(step, losses, lr)
        must_save = step in (settings.steps, fall_start(settings.steps, settings.fall))
        if must_save or time.monotonic() - self._saved >= self._course.checkpoint_seconds:
            self._log.flush()
            self._checkpoints.save(self._learner, settings)
            self._saved = time.monotonic()


def _take_step(lesson: Lesson, course: Course, learner: Learner) -> tuple[dict[str, float], float]:
    settings = course.settings
    lr = learning_rate(learner.step, steps=settings.steps, lr=settings.lr, schedule=settings.schedule)
    apply_learning_rate(learner.optimizer, lr)
    one_pass = partial(lesson.losses, learner.step)
    losses = optimizer_step(learner.model, learner.optimizer, [one_pass], settings.clip_norm, course.peers)
    cure = f"delete {course.folder} and begin the stage again with a lower learning rate"
    refuse_non_finite(losses, learner.step + 1, cure)
    learner.average.update_parameters(learner.model)
    learner.step += 1
    return losses, lr
