"""Live fine-tuning for a minute."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from metaprompts.models.model import MetaPromptModel
from metaprompts.recipes.recipe import Recipe
from metaprompts.training.build_model import build_model
from metaprompts.training.dataloaders import InfiniteDataLoader, training_split
from metaprompts.training.loop import training_step
from metaprompts.training.optimizer import make_optimizer
from metaprompts.training.train_step import apply_learning_rate, check_finite

_FALL = 0.4
_WARMUP_STEPS = 10
ENOUGH_STEPS = 50
"""With fewer steps, the head is still close to its random initialization, and scores are meaningless."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One training step, as a point of the loss curve.

    Attributes:
        seconds: time since the beginning
        loss: loss of the step
    """

    seconds: float
    loss: float


def starting_model(recipe: Recipe) -> MetaPromptModel:
    """The initial model, identical on every call."""
    torch.manual_seed(recipe.training.seed)
    return build_model(recipe)


def fine_tune(
    recipe: Recipe, seconds: float, on_step: Callable[[Point], None] = lambda point: None
) -> tuple[MetaPromptModel, list[Point]]:
    """Train for a given time, at least one step; the learning rate decays over the last part of that time.

    Unlike `training.train` it stops after a fixed time, writes nothing, and its result depends on the machine's speed:
    see `ENOUGH_STEPS`.

    Args:
        recipe: the recipe; its number of steps is not used
        seconds: duration of the training
        on_step: called at every step

    Returns:
        the model and its curve
    """
    model = starting_model(recipe).train()
    optimizer = make_optimizer(model, recipe.optimizer)
    points: list[Point] = []
    started = time.monotonic()
    for step, batch in enumerate(InfiniteDataLoader(training_split(recipe), recipe)):
        # The first batch alone may take all the time on a busy machine.
        passed = min((time.monotonic() - started) / seconds, 1.0)
        factor = min((step + 1) / _WARMUP_STEPS, (1 - passed) / _FALL, 1.0)
        apply_learning_rate(optimizer, recipe.optimizer.lr * factor)
        losses = training_step(model, optimizer, batch, recipe.optimizer.max_grad_norm)
        check_finite(losses, step + 1, "this recipe's learning rate is too high")
        points.append(Point(seconds=time.monotonic() - started, loss=losses["total"]))
        on_step(points[-1])
        if points[-1].seconds >= seconds:
            break
    return model.eval(), points
