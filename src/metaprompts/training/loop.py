"""Training, from a recipe to the best weights. `train` reads top to bottom."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaprompts.backbone import load_backbone, with_random_unet
from metaprompts.backbone.latent_cache import LatentCache
from metaprompts.evaluation.pictures import SeenPictures, seen_batches
from metaprompts.evaluation.run import evaluate
from metaprompts.files import write_json
from metaprompts.model import MetaPromptModel, pick_device
from metaprompts.recipe import Recipe
from metaprompts.training.data import EndlessBatches, Split, training_split, validation_split
from metaprompts.training.optimizer import make_optimizer
from metaprompts.training.progress import Progress
from metaprompts.training.schedules import learning_rate
from metaprompts.training.starting import start_from
from metaprompts.training.steps import apply_learning_rate, optimizer_step, refuse_non_finite

logger = logging.getLogger(__name__)

# By which number, and in which direction, one validation is better than another.
_BEST_BY: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "segmentation": ("mIoU", lambda new, old: new > old),
    "depth": ("rmse", lambda new, old: new < old),
    "pose": ("AP", lambda new, old: new > old),
}


@dataclass
class History:
    """What a training has measured so far; metrics.json holds it.

    Attributes:
        losses: {"step", "lr", "total", and the loss's parts}, one each step
        validations: {"step", and the metric's numbers}
        best: the best of ``validations``
    """

    losses: list[dict[str, float]] = field(default_factory=list)
    validations: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None


def train(recipe: Recipe, progress: Progress) -> History:
    """Train as a recipe says.

    Writes to ``recipe.training.out``: recipe.json (resolved), metrics.json, and the model folders best/ and last/.

    Args:
        recipe: what to do
        progress: is told of every step

    Returns:
        everything measured

    Raises:
        InputError: data, backbone or recipe do not fit, or the loss is no longer finite
    """
    settings = recipe.training
    device = pick_device(settings.device)
    torch.manual_seed(settings.seed)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    train_split, val_split = training_split(recipe), validation_split(recipe)
    batches = EndlessBatches(train_split, recipe)
    steps = settings.total_steps(len(train_split.samples))

    model = build_model(recipe).to(device)
    optimizer = make_optimizer(model, recipe.optimizer)
    write_json(settings.out / "recipe.json", recipe.plain())
    history = History()

    model.train()
    progress.start(steps, model)
    try:
        started = time.perf_counter()
        for step, batch in enumerate(islice(batches, steps), 1):
            lr = set_learning_rate(optimizer, step - 1, steps, recipe)
            losses = training_step(model, optimizer, batch, recipe.optimizer.clip_norm)
            _refuse_non_finite(losses, step, settings.out)
            seconds = time.perf_counter() - started
            progress.step(step, losses, lr=lr, pictures=len(batch["image"]), seconds=seconds)
            history.losses.append({"step": step, "lr": lr, **losses})

            if step % settings.validate_every == 0 or step == steps:
                scores = _validate(model, val_split, recipe, progress)
                _record(model, scores, step, history, recipe)
                progress.validated(step, scores)
            started = time.perf_counter()
    finally:
        progress.finish()
    return history


def _validate(model: MetaPromptModel, split: Split, recipe: Recipe, progress: Progress) -> dict[str, Any]:
    """Score the validation split as the recipe tests, but with one look at each picture."""
    test = recipe.test.quick()
    pictures = SeenPictures(split.samples, split.transforms, test)
    batches = seen_batches(pictures, batch_size=recipe.training.val_batch_size, workers=recipe.data.workers)
    return evaluate(model, progress.validating(batches), facts=split.facts, test=test)


def build_model(recipe: Recipe) -> MetaPromptModel:
    """The model that a recipe starts from."""
    choice = recipe.backbone
    backbone = load_backbone(choice.source)
    model = MetaPromptModel.on_backbone(
        with_random_unet(backbone) if choice.forget_unet else backbone,
        task=recipe.task,
        prompts=recipe.prompts,
        refinement=recipe.refinement,
        rearrangement=recipe.rearrangement,
        scaled_latent=choice.scaled_latent,
        working_size=recipe.data.size_of_prediction(),
    )
    if recipe.training.start_from is not None:
        start_from(model, recipe.training.start_from)
    # Training does not notice the encoder's rounding, but its time.
    model.latent_encoder.precise = False
    model.latent_encoder.cache = LatentCache() if choice.cache_latents else None
    model.unet.gradient_checkpointing = choice.gradient_checkpointing
    if choice.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def set_learning_rate(optimizer: torch.optim.Optimizer, step: int, steps: int, recipe: Recipe) -> float:
    """Give every group its learning rate for a step (0 for the first); returns the schedule's own."""
    lr = learning_rate(step, steps=steps, lr=recipe.optimizer.lr, schedule=recipe.schedule)
    apply_learning_rate(optimizer, lr)
    return lr


def training_step(
    model: MetaPromptModel, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], clip_norm: float | None
) -> dict[str, float]:
    """One optimizer step.

    Returns:
        the loss's parts and their sum, "total"
    """
    batch = {name: tensor.to(model.device, non_blocking=True) for name, tensor in batch.items()}
    losses = model.task.losses(*model.training_outputs(batch["image"]), batch)
    return optimizer_step(model, optimizer, losses, clip_norm)


def _refuse_non_finite(losses: dict[str, float], step: int, out: Path) -> None:
    cure = f"lower optimizer.lr or set optimizer.clip_norm; the last validated weights are in {out}"
    refuse_non_finite(losses, step, cure)


def _save(model: MetaPromptModel, folder: Path, recipe: Recipe) -> None:
    model.save(folder)
    write_json(folder / "recipe.json", recipe.plain())


def _record(model: MetaPromptModel, scores: dict[str, Any], step: int, history: History, recipe: Recipe) -> None:
    out = recipe.training.out
    entry = {"step": step, **scores}
    history.validations.append(entry)
    name, is_better = _BEST_BY[model.task.name]
    if history.best is None or math.isnan(history.best[name]) or is_better(scores[name], history.best[name]):
        history.best = entry
        _save(model, out / "best", recipe)
    _save(model, out / "last", recipe)
    write_json(
        out / "metrics.json",
        {"best": history.best, "validations": history.validations, "losses": history.losses},
    )
