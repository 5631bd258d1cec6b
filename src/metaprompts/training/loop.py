"""Training, from a recipe to the best weights. `train` reads top to bottom."""

import logging
import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaprompts.evaluation.dataset import SeenPictures, seen_batches
from metaprompts.evaluation.evaluate import evaluate
from metaprompts.models.config import Base
from metaprompts.models.model import MetaPromptModel
from metaprompts.modules.backbone import Backbone, load_backbone, with_random_unet
from metaprompts.modules.backbone.latent_cache import LatentCache
from metaprompts.modules.backbone.loading import backbone_fingerprint
from metaprompts.recipes.recipe import Recipe
from metaprompts.training.batch_plan import step_split
from metaprompts.training.checkpoints import Checkpoints, Resume, chance, skipped_by_all
from metaprompts.training.class_weights import with_class_weights
from metaprompts.training.dataloaders import (
    EndlessBatches,
    Split,
    describe_validation,
    training_split,
    validation_split,
    with_held_out,
)
from metaprompts.training.depth_range import check_depth_range
from metaprompts.training.distributed import Team, training_team
from metaprompts.training.label_check import check_labels
from metaprompts.training.logger import LOG_FILE, MetricLogger, metric_logger, read_lines
from metaprompts.training.lr_schedule import check_warmup, learning_rate
from metaprompts.training.nonfinite_dump import KeptStep, keep_step, shown_files
from metaprompts.training.plots import training_curves
from metaprompts.training.previews import sample_pictures, samples_to_watch
from metaprompts.training.ranking import is_as_good, main_metric, validations_since_best
from metaprompts.training.signals import TrainingStopped, noticing_signals
from metaprompts.training.train_state import History, Trainee
from metaprompts.training.train_step import TrainingPass, apply_learning_rate, optimizer_step, refuse_non_finite
from metaprompts.training.warm_start import init_from
from metaprompts.utils.files import write_json, write_picture
from metaprompts.utils.locks import writing_into
from metaprompts.utils.malloc import give_back_large_blocks
from metaprompts.utils.progress import Progress, Silence
from metaprompts.utils.torch_modules import channels_last

logger = logging.getLogger(__name__)

Passes = list[dict[str, Tensor]]
"""The pictures and targets of a step that one process has, pass by pass."""

CURVES_FILE = "curves.png"


def train(recipe: Recipe, progress: Progress, *, resume: Resume = "ask") -> History:
    """Train as a recipe says.

    Writes to ``recipe.training.out``: recipe.json (resolved), log.jsonl (every step), metrics.json and the model
    folders best/ and last/ (every validation), now and then a checkpoint, and curves.png with each of these. SIGINT and
    SIGTERM end it after a step, with a checkpoint.

    Args:
        recipe: what to do
        progress: is told of every step
        resume: what to do with an unfinished training in that folder

    Returns:
        every validation

    Raises:
        InputError: data, backbone or recipe do not fit, another process writes into the folder, or the loss is no
            longer finite
        TrainingStopped: a signal asked for it
    """
    with training_team(recipe.training) as team, _alone_in(recipe.training.out, team):
        return _train(recipe, team, progress if team.is_first else Silence(), resume)


def _alone_in(out: Path, team: Team) -> AbstractContextManager[None]:
    """The first process writes; nothing is read or removed before it may."""
    return writing_into(out, "train", deep=True) if team.is_first else nullcontext()


def _train(recipe: Recipe, team: Team, progress: Progress, resume: Resume) -> History:
    settings = recipe.training
    torch.manual_seed(settings.seed)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    split = step_split(recipe, team.count)
    train_split = training_split(recipe)
    val_split = validation_split(recipe) if recipe.data.validates else None
    splits = {"training": train_split} | ({} if val_split is None else {"validation": val_split})
    stored = {name: each.stored for name, each in splits.items()}
    recipe = with_held_out(recipe, val_split)
    recipe, lines = with_class_weights(recipe, train_split.stored, team.gather)
    progress.note(lines)
    if (told := describe_validation(recipe, splits)) is not None:
        progress.note([told])
    check_depth_range(recipe, warns=team.is_first, **stored)
    labels = check_labels(recipe, warns=team.is_first, **stored)
    progress.note(labels["training"].lines() if "training" in labels else [])
    batches = EndlessBatches(train_split, recipe, split, team.rank)
    steps = settings.total_steps(len(train_split.samples), split.batch)
    if team.is_first and (fault := check_warmup(recipe.schedule, steps)) is not None:
        logger.warning("%s", fault)

    model = build_model(recipe).to(team.device)
    if team.device.type == "cpu":
        give_back_large_blocks(model)
    trainee = Trainee(model, recipe, team, split)
    if not team.is_first:
        # All begin with the same weights, and then draw their own dropout.
        torch.manual_seed(settings.seed * 1_000_003 + team.rank)
    checkpoints = Checkpoints(recipe, steps, train_split.samples, team)
    checkpoints.resume(trainee, resume)
    if trainee.is_finished:
        progress.note([f"nothing to do: this training has ended at step {trainee.step}; more --training.steps go on"])
        return trainee.history
    if team.is_first:
        write_json(settings.out / "recipe.json", recipe.plain())
        _warn_of_useless_cache(recipe)

    trainee.model.train()
    progress.start(steps, trainee.model, str(split))
    saved = time.perf_counter()
    try:
        writing = metric_logger(
            recipe,
            team.accelerator,
            is_main=team.is_first,
            step=trainee.step,
            validation_due=trainee.owes_validation,
        )
        with noticing_signals() as request, writing as notes:

            def stop_if_asked() -> None:
                if request.signal is not None:
                    raise TrainingStopped(trainee.step, steps, request.signal)

            def validate() -> None:
                with trainee.averaged():
                    scores = None
                    if val_split is not None:
                        scores = _validate(trainee, val_split, recipe, team, progress, notes, stop_if_asked)
                        notes.validation(trainee.step, scores)
                    _record(trainee, scores, train_split, recipe, team)
                trainee.owes_validation = False
                if scores is not None:
                    progress.validated(trainee.step, scores)

            def is_stalled() -> bool:
                return _is_stalled(trainee.history, recipe)

            if trainee.owes_validation:
                validate()
            remaining = islice(batches.after(trainee.step), steps - trainee.step)
            for passes, waited in _with_waits(_until(is_stalled, remaining)):
                started = time.perf_counter()
                losses, lr = _take_step(trainee, passes, batches, steps, recipe, team)
                seconds = waited + time.perf_counter() - started
                notes.step(trainee.step, {"lr": lr, **losses}, seconds=seconds, waited=waited)
                progress.step(trainee.step, losses, lr=lr, pictures=split.batch, seconds=seconds, waited=waited)
                trainee.owes_validation = trainee.step % settings.validate_every == 0 or trainee.step == steps
                is_due = team.is_first and time.perf_counter() - saved >= settings.checkpoint_seconds
                must_stop, must_save = team.any(request.signal is not None, is_due)
                # A validation may take long, and may fail: the steps before it must not be lost with it.
                if must_stop or must_save or trainee.owes_validation:
                    checkpoints.save(trainee)
                    saved = time.perf_counter()
                    # A validation that follows draws them, too.
                    if team.is_first and (must_stop or not trainee.owes_validation):
                        _draw_curves(recipe)
                if must_stop:
                    raise TrainingStopped(trainee.step, steps, request.signal or signal.SIGTERM)
                if trainee.owes_validation:
                    validate()
            if is_stalled() and trainee.step < steps:
                notes.stopped_early(trainee.step, settings.early_stopping or 0)
                progress.note([_early_stop(trainee, steps, recipe)])
            checkpoints.finish(trainee)
    finally:
        progress.finish()
    return trainee.history


def _warn_of_useless_cache(recipe: Recipe) -> None:
    if recipe.backbone.cache_latents and not recipe.pictures_repeat:
        logger.warning(
            "backbone.cache_latents is of use where pictures repeat to the last bit; this recipe's crops, colors or "
            "scales are random, so it fills up to 1 GiB of memory for nothing: set it to false"
        )


def _is_stalled(history: History, recipe: Recipe) -> bool:
    """Whether so many validations have brought nothing that the training is to stop."""
    patience = recipe.training.early_stopping
    return patience is not None and validations_since_best(recipe.task.name, history.validations) >= patience


def _early_stop(trainee: Trainee, steps: int, recipe: Recipe) -> str:
    metric, patience = main_metric(recipe.task.name), recipe.training.early_stopping
    best = trainee.history.best or {}
    return (
        f"stopped early at step {trainee.step} of {steps}: {metric} was no better in {patience} "
        f"validation{'s' if patience != 1 else ''} in a row (best {best.get(metric, math.nan):.4f} at step "
        f"{best.get('step')}); --training.early_stopping none --resume auto goes on"
    )


def _until(is_over: Callable[[], bool], batches: Iterator[Passes]) -> Iterator[Passes]:
    """Batches until something is over; it is asked before each is read."""
    while not is_over() and (batch := next(batches, None)) is not None:
        yield batch


def _with_waits(batches: Iterable[Passes]) -> Iterator[tuple[Passes, float]]:
    """Batches, each with the seconds that it was waited for."""
    asked = time.perf_counter()
    for batch in batches:
        yield batch, time.perf_counter() - asked
        asked = time.perf_counter()


def _with(between: Callable[[], None], batches: Iterable[Any]) -> Iterator[Any]:
    for batch in batches:
        between()
        yield batch


def _take_step(
    trainee: Trainee, passes: Passes, batches: EndlessBatches, steps: int, recipe: Recipe, team: Team
) -> tuple[dict[str, float], float]:
    """One step; where its loss is not finite, the weights stay, and what it follows from is kept."""
    before, clip_norm = chance(), recipe.optimizer.clip_norm
    lr = set_learning_rate(trainee.optimizer, trainee.step, steps, recipe)
    losses_of = [partial(trainee.one_pass, batch) for batch in passes]
    losses = optimizer_step(trainee.model, trainee.optimizer, losses_of, clip_norm, team)
    if not all(map(math.isfinite, losses.values())):
        files = batches.files(trainee.step)
        step = KeptStep(
            step=trainee.step + 1,
            rank=team.rank,
            passes=passes,
            files=files,
            chance=before,
            loss_batch=trainee.split.loss_batch,
        )
        kept = keep_step(step, trainee.model, trainee.tensors(), recipe)
        cure = (
            f"lower optimizer.lr or set optimizer.clip_norm; its pictures are {shown_files(files)}, and {kept} holds "
        )
        refuse_non_finite(losses, trainee.step + 1, f"{cure}all that metaprompts.training.nonfinite_dump.replay needs")
    trainee.stepped()
    return losses, lr


def _validate(
    trainee: Trainee,
    split: Split,
    recipe: Recipe,
    team: Team,
    progress: Progress,
    notes: MetricLogger,
    between: Callable[[], None],
) -> dict[str, Any]:
    """Score the validation split as the recipe tests, but with one look at each picture.

    What is to be done ``between`` two batches may end it.
    """
    test = recipe.test.quick()
    pictures = SeenPictures(split.samples, split.transforms, test)
    batches = seen_batches(
        pictures,
        batch_size=recipe.training.val_batch_size,
        workers=recipe.data.workers,
        share=(team.rank, team.count),
    )
    seen = _with(between, progress.validating(batches))
    with trainee.alone():
        scores = evaluate(trainee.model, seen, facts=split.facts, test=test, gather=team.gather)
        if notes.tracks:
            notes.pictures(trainee.step, sample_pictures(trainee.model, samples_to_watch(split.samples)))
    return scores


def build_model(recipe: Recipe) -> MetaPromptModel:
    """The model that a recipe starts from."""
    backbone = load_backbone(recipe.backbone.source)
    model = model_on(recipe, backbone, _base(recipe, backbone))
    if recipe.training.init_from is not None:
        init_from(model, recipe.training.init_from)
    return model


def model_on(recipe: Recipe, backbone: Backbone, base: Base | None) -> MetaPromptModel:
    """A recipe's model on a backbone, ready to be trained.

    Args:
        recipe: what to build
        backbone: what to build it on, whatever the recipe's source is
        base: the backbone's name, where it stays frozen
    """
    choice = recipe.backbone
    model = MetaPromptModel.from_backbone(
        with_random_unet(backbone) if choice.forget_unet else backbone,
        task=recipe.task,
        prompts=replace(recipe.prompts, text_source=recipe.prompts.text_source or choice.source),
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
        channels_last(model)
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
    """One optimizer step in this process alone.

    Returns:
        the loss's parts and their sum, "total"
    """
    return optimizer_step(model, optimizer, [partial(TrainingPass(model), batch)], clip_norm)


def _record(trainee: Trainee, scores: dict[str, Any] | None, split: Split, recipe: Recipe, team: Team) -> None:
    """Keep the scores, if there was a validation, and the weights that reached them."""
    history, out, is_best = trainee.history, recipe.training.out, False
    if scores is not None:
        entry = {"step": trainee.step, **scores}
        history.validations.append(entry)
        is_best = is_as_good(trainee.model.task.name, entry, history.best)
        history.best = entry if is_best else history.best
    tensors = trainee.tensors()
    skipped = skipped_by_all(split.samples, team)
    if not team.is_first:
        return
    for folder in ("best", "last") if is_best else ("last",):
        trainee.model.save(out / folder, state=tensors)
        write_json(out / folder / "recipe.json", recipe.plain())
    counted = {} if skipped is None else {"skipped": len(skipped)}
    write_json(out / "metrics.json", {"best": history.best, "validations": history.validations, **counted})
    _draw_curves(recipe)


def _draw_curves(recipe: Recipe) -> None:
    out = recipe.training.out
    write_picture(out / CURVES_FILE, training_curves(read_lines(out / LOG_FILE), main_metric(recipe.task.name)))
