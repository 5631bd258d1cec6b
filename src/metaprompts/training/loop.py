"""Training, from a recipe to the best weights. `train` reads top to bottom."""

import logging
import math
import time
from collections.abc import Callable
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
from metaprompts.training.checkpoints import Checkpoints, History, Resume, Trainee
from metaprompts.training.data import EndlessBatches, Split, training_split, validation_split
from metaprompts.training.optimizer import make_optimizer
from metaprompts.training.progress import Progress
from metaprompts.training.schedules import learning_rate
from metaprompts.training.starting import start_from
from metaprompts.training.steps import apply_learning_rate, optimizer_step, refuse_non_finite
from metaprompts.training.stopping import TrainingStopped, noticing_signals

logger = logging.getLogger(__name__)

# By which number, and in which direction, one validation is better than another.
_BEST_BY: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "segmentation": ("mIoU", lambda new, old: new > old),
    "depth": ("rmse", lambda new, old: new < old),
    "pose": ("AP", lambda new, old: new > old),
}


def train(recipe: Recipe, progress: Progress, *, resume: Resume = "ask") -> History:
    """Train as a recipe says.

    Writes to ``recipe.training.out``: recipe.json (resolved), metrics.json, the model folders best/ and last/, and now
    and then a checkpoint. SIGINT and SIGTERM end it after a step, with a checkpoint.

    Args:
        recipe: what to do
        progress: is told of every step
        resume: what to do with an unfinished training in that folder

    Returns:
        everything measured

    Raises:
        InputError: data, backbone or recipe do not fit, or the loss is no longer finite
        TrainingStopped: a signal asked for it
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
    trainee = Trainee(model, make_optimizer(model, recipe.optimizer))
    checkpoints = Checkpoints(recipe, steps)
    checkpoints.resume(trainee, resume)
    write_json(settings.out / "recipe.json", recipe.plain())

    model.train()
    progress.start(steps, model)
    saved = started = time.perf_counter()
    try:
        with noticing_signals() as request:
            for batch in islice(batches.after(trainee.step), steps - trainee.step):
                losses, lr = _take_step(trainee, batch, steps, recipe)
                seconds = time.perf_counter() - started
                progress.step(trainee.step, losses, lr=lr, pictures=len(batch["image"]), seconds=seconds)
                if trainee.step % settings.validate_every == 0 or trainee.step == steps:
                    scores = _validate(model, val_split, recipe, progress)
                    _record(model, scores, trainee.step, trainee.history, recipe)
                    progress.validated(trainee.step, scores)
                if request.signal is not None or time.perf_counter() - saved >= settings.checkpoint_seconds:
                    checkpoints.save(trainee)
                    saved = time.perf_counter()
                if request.signal is not None and trainee.step < steps:
                    raise TrainingStopped(trainee.step, steps, request.signal)
                started = time.perf_counter()
            checkpoints.finish(trainee)
    finally:
        progress.finish()
    return trainee.history


def _take_step(
    trainee: Trainee, batch: dict[str, Tensor], steps: int, recipe: Recipe
) -> tuple[dict[str, float], float]:
    model, optimizer = trainee.model, trainee.optimizer
    assert isinstance(model, MetaPromptModel)
    lr = set_learning_rate(optimizer, trainee.step, steps, recipe)
    losses = training_step(model, optimizer, batch, recipe.optimizer.clip_norm)
    trainee.step += 1
    _refuse_non_finite(losses, trainee.step, recipe.training.out)
    trainee.history.losses.append({"step": trainee.step, "lr": lr, **losses})
    return losses, lr


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
