"""Training, from a recipe to the best weights. `train` reads top to bottom."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaprompts.backbone import Backbone, load_backbone, with_random_unet
from metaprompts.backbone.latent_cache import LatentCache
from metaprompts.backbone.sources import backbone_fingerprint
from metaprompts.config import Base
from metaprompts.data.skipping import Skipping
from metaprompts.evaluation.pictures import SeenPictures, seen_batches
from metaprompts.evaluation.run import evaluate
from metaprompts.files import write_json, write_picture
from metaprompts.model import MetaPromptModel, pick_device
from metaprompts.recipe import Recipe
from metaprompts.training.allocator import give_back_large_blocks
from metaprompts.training.checkpoints import Checkpoints, History, Resume, Trainee, chance
from metaprompts.training.curves import training_curves
from metaprompts.training.data import EndlessBatches, Split, training_split, validation_split
from metaprompts.training.diagnosis import keep_step, shown_files
from metaprompts.training.optimizer import make_optimizer
from metaprompts.training.progress import Progress
from metaprompts.training.schedules import learning_rate
from metaprompts.training.starting import start_from
from metaprompts.training.step_log import StepLog, read_lines
from metaprompts.training.steps import apply_learning_rate, optimizer_step, refuse_non_finite
from metaprompts.training.stopping import TrainingStopped, noticing_signals

logger = logging.getLogger(__name__)

LOG_FILE, CURVES_FILE = "log.jsonl", "curves.png"

# By which number, and in which direction, one validation is better than another.
_BEST_BY: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "segmentation": ("mIoU", lambda new, old: new > old),
    "depth": ("rmse", lambda new, old: new < old),
    "pose": ("AP", lambda new, old: new > old),
}


def train(recipe: Recipe, progress: Progress, *, resume: Resume = "ask") -> History:
    """Train as a recipe says.

    Writes to ``recipe.training.out``: recipe.json (resolved), log.jsonl (every step), metrics.json and curves.png
    (every validation), the model folders best/ and last/, and now and then a checkpoint. SIGINT and SIGTERM end it
    after a step, with a checkpoint.

    Args:
        recipe: what to do
        progress: is told of every step
        resume: what to do with an unfinished training in that folder

    Returns:
        every validation

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
    if device.type == "cpu":
        give_back_large_blocks(model)
    trainee = Trainee(model, make_optimizer(model, recipe.optimizer))
    checkpoints = Checkpoints(recipe, steps)
    checkpoints.resume(trainee, resume)
    write_json(settings.out / "recipe.json", recipe.plain())

    model.train()
    progress.start(steps, model)
    saved = time.perf_counter()
    try:
        with noticing_signals() as request, closing(StepLog(settings.out / LOG_FILE, trainee.step)) as log:
            for batch, waited in _with_waits(islice(batches.after(trainee.step), steps - trainee.step)):
                started = time.perf_counter()
                losses, lr = _take_step(trainee, batch, batches, steps, recipe)
                seconds = waited + time.perf_counter() - started
                log.add(trainee.step, {"lr": lr, **losses, "seconds": seconds, "waited": waited})
                pictures = len(batch["image"])
                progress.step(trainee.step, losses, lr=lr, pictures=pictures, seconds=seconds, waited=waited)
                if trainee.step % settings.validate_every == 0 or trainee.step == steps:
                    scores = _validate(model, val_split, recipe, progress)
                    log.add(trainee.step, {"validation": scores})
                    _record(trainee, scores, train_split, recipe)
                    progress.validated(trainee.step, scores)
                if request.signal is not None or time.perf_counter() - saved >= settings.checkpoint_seconds:
                    checkpoints.save(trainee)
                    saved = time.perf_counter()
                if request.signal is not None and trainee.step < steps:
                    raise TrainingStopped(trainee.step, steps, request.signal)
            checkpoints.finish(trainee)
    finally:
        progress.finish()
    return trainee.history


def _with_waits(batches: Iterable[dict[str, Tensor]]) -> Iterator[tuple[dict[str, Tensor], float]]:
    """Batches, each with the seconds that it was waited for."""
    asked = time.perf_counter()
    for batch in batches:
        yield batch, time.perf_counter() - asked
        asked = time.perf_counter()


def _take_step(
    trainee: Trainee, batch: dict[str, Tensor], batches: EndlessBatches, steps: int, recipe: Recipe
) -> tuple[dict[str, float], float]:
    """One step; where its loss is not finite, the weights stay, and what it follows from is kept."""
    model, optimizer, before = trainee.model, trainee.optimizer, chance()
    lr = set_learning_rate(optimizer, trainee.step, steps, recipe)
    losses = training_step(model, optimizer, batch, recipe.optimizer.clip_norm)
    if not all(map(math.isfinite, losses.values())):
        files = batches.files(trainee.step)
        kept = keep_step(recipe.training.out, trainee.step + 1, model, batch, files, before, recipe)
        cure = (
            f"lower optimizer.lr or set optimizer.clip_norm; its pictures are {shown_files(files)}, and {kept} holds "
        )
        refuse_non_finite(losses, trainee.step + 1, f"{cure}all that metaprompts.training.diagnosis.replay needs")
    trainee.step += 1
    return losses, lr


def _validate(model: MetaPromptModel, split: Split, recipe: Recipe, progress: Progress) -> dict[str, Any]:
    """Score the validation split as the recipe tests, but with one look at each picture."""
    test = recipe.test.quick()
    pictures = SeenPictures(split.samples, split.transforms, test)
    batches = seen_batches(pictures, batch_size=recipe.training.val_batch_size, workers=recipe.data.workers)
    return evaluate(model, progress.validating(batches), facts=split.facts, test=test)


def build_model(recipe: Recipe) -> MetaPromptModel:
    """The model that a recipe starts from."""
    backbone = load_backbone(recipe.backbone.source)
    model = model_on(recipe, backbone, _base(recipe, backbone))
    if recipe.training.start_from is not None:
        start_from(model, recipe.training.start_from)
    return model


def model_on(recipe: Recipe, backbone: Backbone, base: Base | None) -> MetaPromptModel:
    """A recipe's model on a backbone, ready to be trained.

    Args:
        recipe: what to build
        backbone: what to build it on, whatever the recipe's source is
        base: the backbone's name, where it stays frozen
    """
    choice = recipe.backbone
    model = MetaPromptModel.on_backbone(
        with_random_unet(backbone) if choice.forget_unet else backbone,
        task=recipe.task,
        prompts=recipe.prompts,
        refinement=recipe.refinement,
        rearrangement=recipe.rearrangement,
        scaled_latent=choice.scaled_latent,
        working_size=recipe.data.size_of_prediction(),
        base=base,
        lora=recipe.training.lora,
    )
    # Training does not notice the encoder's rounding, but its time.
    model.latent_encoder.precise = False
    model.latent_encoder.cache = LatentCache() if choice.cache_latents else None
    model.unet.gradient_checkpointing = choice.gradient_checkpointing
    if choice.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _base(recipe: Recipe, backbone: Backbone) -> Base | None:
    if recipe.training.trainable == "full":
        return None
    return Base(source=recipe.backbone.source, fingerprint=backbone_fingerprint(backbone))


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


def _save(model: MetaPromptModel, folder: Path, recipe: Recipe) -> None:
    model.save(folder)
    write_json(folder / "recipe.json", recipe.plain())


def _record(trainee: Trainee, scores: dict[str, Any], split: Split, recipe: Recipe) -> None:
    model, history, out = trainee.model, trainee.history, recipe.training.out
    entry = {"step": trainee.step, **scores}
    history.validations.append(entry)
    name, is_better = _BEST_BY[model.task.name]
    if history.best is None or math.isnan(history.best[name]) or is_better(scores[name], history.best[name]):
        history.best = entry
        _save(model, out / "best", recipe)
    _save(model, out / "last", recipe)
    skipped = {"skipped": split.samples.skipped} if isinstance(split.samples, Skipping) else {}
    write_json(out / "metrics.json", {"best": history.best, "validations": history.validations, **skipped})
    write_picture(out / CURVES_FILE, training_curves(read_lines(out / LOG_FILE), name))
