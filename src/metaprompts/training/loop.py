"""Training, from a recipe to the best weights. `train` reads top to bottom."""

import logging
import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaprompts.data.datasets.held_out import warn_of_overlap
from metaprompts.evaluation.dataset import EvalDataset, seen_batches
from metaprompts.evaluation.evaluate import evaluate
from metaprompts.models.model import MetaPromptModel
from metaprompts.recipes.loader import read_recipe
from metaprompts.recipes.recipe import Recipe
from metaprompts.training.batch_plan import batch_plan
from metaprompts.training.build_model import build_model
from metaprompts.training.checkpoints import Checkpoints, Resume, rng_state, skipped_by_all
from metaprompts.training.dataloaders import (
    InfiniteDataLoader,
    Split,
    describe_validation,
    training_split,
    validation_split,
    with_held_out,
)
from metaprompts.training.distributed import DistributedContext, distributed_context
from metaprompts.training.logger import LOG_FILE, MetricLogger, metric_logger, read_lines
from metaprompts.training.lr_schedule import check_warmup, learning_rate
from metaprompts.training.nonfinite_dump import dump_step
from metaprompts.training.plots import training_curves
from metaprompts.training.previews import sample_images, samples_to_watch
from metaprompts.training.ranking import is_as_good, main_metric, validations_since_best
from metaprompts.training.signals import TrainingStopped, noticing_signals
from metaprompts.training.train_state import History, RunState
from metaprompts.training.train_step import LossModule, apply_learning_rate, check_finite, optimizer_step
from metaprompts.utils.callbacks import Callback, CallbackList
from metaprompts.utils.files import write_image, write_json
from metaprompts.utils.locks import writing_into
from metaprompts.utils.malloc import trim_malloc
from metaprompts.utils.wording import counted, listed

logger = logging.getLogger(__name__)

Passes = list[dict[str, Tensor]]
"""One process's images and targets of a step, pass by pass."""

CURVES_FILE = "curves.png"


def train(
    recipe: Recipe | str | Path,
    callbacks: Sequence[Callback] = (),
    *,
    overrides: Mapping[str, Any] | None = None,
    resume: Resume = "ask",
) -> History:
    """Train according to a recipe.

    Writes to ``recipe.training.output_dir``: recipe.json (resolved), log.jsonl (every step), metrics.json and the model
    folders best/ and last/ (every validation), periodic checkpoints, and curves.png (with each validation and
    checkpoint). SIGINT and SIGTERM stop the run after a step, with a checkpoint.

    Args:
        recipe: a recipe, the name of a shipped recipe, or a file: .toml, or a run's recipe.json
        callbacks: called at every step and validation; `ConsoleProgress` prints the progress
        overrides: for a name or a file: "section.key" -> value, as the command line's --section.key value
        resume: "ask": raise if the folder has an unfinished run; "auto": resume it; "never": start over

    Returns:
        every validation

    Raises:
        InputError: data, backbone and recipe do not match, the folder contains data or another process writes into it,
            or the loss is non-finite
        TrainingStopped: a signal stopped the run
    """
    if not isinstance(recipe, Recipe):
        recipe = read_recipe(str(recipe), overrides or {})
    recipe.data.check_output(recipe.training.output_dir)
    with distributed_context(recipe.training) as dist:
        if not dist.is_first:
            return _train(recipe, dist, CallbackList(()), resume)
        # Only rank 0 writes; nothing is read or removed before rank 0 holds the lock.
        with writing_into(recipe.training.output_dir, "train", deep=True):
            return _train(recipe, dist, CallbackList(callbacks), resume)


def _train(recipe: Recipe, dist: DistributedContext, callbacks: Callback, resume: Resume) -> History:
    settings = recipe.training
    torch.manual_seed(settings.seed)
    if settings.num_threads is not None:
        torch.set_num_threads(settings.num_threads)
    split = batch_plan(recipe, dist.count)
    train_split = training_split(recipe)
    val_split = validation_split(recipe) if recipe.data.validates else None
    splits = {"training": train_split} | ({} if val_split is None else {"validation": val_split})
    stored = {name: each.stored for name, each in splits.items()}
    recipe = with_held_out(recipe, val_split)
    task, lines = recipe.task.fitted_to(train_split.stored, dist.gather)
    recipe = replace(recipe, task=task)
    callbacks.on_message(lines)
    if (line := describe_validation(recipe, splits)) is not None:
        callbacks.on_message([line])
    if dist.is_first:
        warn_of_overlap(stored)
    counts = {name: task.check_samples(each, f"{name} split", warns=dist.is_first) for name, each in stored.items()}
    callbacks.on_message([] if counts["training"] is None else counts["training"].lines())
    batches = InfiniteDataLoader(train_split, recipe, split, dist.rank)
    steps = settings.total_steps(len(train_split.samples), split.batch)
    if dist.is_first and (fault := check_warmup(recipe.schedule, steps)) is not None:
        logger.warning("%s", fault)

    checkpoints = Checkpoints(recipe, steps, train_split.samples, dist)
    model = build_model(recipe, is_resumed=checkpoints.find(resume)).to(dist.device)
    if dist.device.type == "cpu":
        trim_malloc(model)
    train_state = RunState(model, recipe, dist, split)
    if not dist.is_first:
        # All processes start from the same weights, but draw their own dropout.
        torch.manual_seed(settings.seed * 1_000_003 + dist.rank)
    checkpoints.restore(train_state)
    if train_state.is_finished:
        callbacks.on_message(
            [f"nothing to do: this run is finished at step {train_state.step}; raise --training.steps to continue"]
        )
        return train_state.history
    if dist.is_first:
        write_json(settings.output_dir / "recipe.json", recipe.to_dict())
        _warn_of_useless_cache(recipe)

    train_state.model.train()
    callbacks.on_train_begin(train_state.model, steps, str(split))
    saved = time.perf_counter()
    try:
        with noticing_signals() as request, metric_logger(train_state) as notes:

            def stop_if_asked() -> None:
                if request.signal is not None:
                    raise TrainingStopped(train_state.step, steps, request.signal)

            def validate() -> None:
                with train_state.ema_weights():
                    scores = None
                    if val_split is not None:
                        scores = _validate(train_state, val_split, callbacks, notes, stop_if_asked)
                        notes.validation(train_state.step, scores)
                    _record(train_state, scores, train_split)
                    train_state.validation_due = False
                    if scores is not None:
                        callbacks.on_validation_end(train_state.model, train_state.step, scores)

            is_stalled = partial(_is_stalled, train_state)
            if train_state.validation_due:
                validate()
            remaining = islice(batches.after(train_state.step), steps - train_state.step)
            for passes, waited in _until(is_stalled, remaining):
                started = time.perf_counter()
                losses, lr = _take_step(train_state, passes, batches, steps)
                times = {"seconds": waited + time.perf_counter() - started, "waited": waited}
                notes.step(train_state.step, {"lr": lr, **losses, **times})
                callbacks.on_step_end(train_state.model, train_state.step, losses, lr=lr, images=split.batch, **times)
                train_state.validation_due = (
                    train_state.step % settings.validate_every == 0 or train_state.step == steps
                )
                is_due = dist.is_first and time.perf_counter() - saved >= settings.checkpoint_seconds
                must_stop, must_save = dist.any(request.signal is not None, is_due)
                # A validation may take long and may fail; the preceding steps must not be lost with it.
                if must_stop or must_save or train_state.validation_due:
                    checkpoints.save(train_state)
                    saved = time.perf_counter()
                    # Otherwise the following validation draws the curves.
                    if dist.is_first and (must_stop or not train_state.validation_due):
                        _draw_curves(recipe)
                if must_stop:
                    raise TrainingStopped(train_state.step, steps, request.signal or signal.SIGTERM)
                if train_state.validation_due:
                    validate()
            if is_stalled() and train_state.step < steps:
                notes.stopped_early(train_state.step, settings.early_stopping or 0)
                callbacks.on_message([_early_stop(train_state, steps)])
            checkpoints.save(train_state, finished=True)
    finally:
        callbacks.on_train_end()
    return train_state.history


def _warn_of_useless_cache(recipe: Recipe) -> None:
    if recipe.backbone.latent_cache is not None:
        key, cost, cure = "backbone.latent_cache", "grows with every image of every epoch", "none"
    else:
        key, cost, cure = "backbone.cache_latents", "takes up to 1 GiB of memory per encoder", "false"
    if (recipe.backbone.latent_cache is not None or recipe.backbone.cache_latents) and not recipe.images_repeat:
        logger.warning(
            f"{key} helps only if images repeat exactly, but this recipe has random crops, colors or scales, so the "
            f"cache {cost} without benefit: set it to {cure}"
        )


def _is_stalled(train_state: RunState) -> bool:
    """Whether early stopping applies: too many validations in a row without improvement."""
    patience, validations = train_state.recipe.training.early_stopping, train_state.history.validations
    return patience is not None and validations_since_best(train_state.recipe.task, validations) >= patience


def _early_stop(train_state: RunState, steps: int) -> str:
    metric, patience = main_metric(train_state.recipe.task), train_state.recipe.training.early_stopping
    best = train_state.history.best or {}
    return (
        f"stopped early at step {train_state.step} of {steps}: {metric} has not improved for "
        f"{counted(patience or 0, 'validation')} in a row (best {best.get(metric, math.nan):.4f} at step "
        f"{best.get('step')}); to continue, pass --training.early_stopping none --resume auto"
    )


def _until(is_over: Callable[[], bool], batches: Iterator[Passes]) -> Iterator[tuple[Passes, float]]:
    """Yield batches, each with the seconds spent waiting for it, as long as ``is_over`` is False."""
    asked = time.perf_counter()
    while not is_over() and (batch := next(batches, None)) is not None:
        yield batch, time.perf_counter() - asked
        asked = time.perf_counter()


def _with(between: Callable[[], None], batches: Iterable[Any]) -> Iterator[Any]:
    for batch in batches:
        between()
        yield batch


def _take_step(
    train_state: RunState, passes: Passes, batches: InfiniteDataLoader, steps: int
) -> tuple[dict[str, float], float]:
    """Take one step; if its loss is non-finite, the weights are unchanged and the step's inputs are dumped."""
    recipe, dist, before = train_state.recipe, train_state.dist, rng_state()
    lr = learning_rate(train_state.step, steps=steps, lr=recipe.optimizer.lr, schedule=recipe.schedule)
    apply_learning_rate(train_state.optimizer, lr)
    losses_of = [partial(train_state.one_pass, batch) for batch in passes]
    losses = optimizer_step(train_state.model, train_state.optimizer, losses_of, recipe.optimizer.max_grad_norm, dist)
    if not all(map(math.isfinite, losses.values())):
        files = batches.files(train_state.step)
        kept = dump_step(
            train_state.model,
            recipe,
            train_state.tensors(),
            passes,
            step=train_state.step + 1,
            rank=dist.rank,
            files=files,
            rng_state=before,
            loss_batch=train_state.split.loss_batch,
        )
        cure = (
            f"lower optimizer.lr or set optimizer.max_grad_norm; its images are {listed(files, 8)}, and {kept} holds "
        )
        check_finite(losses, train_state.step + 1, f"{cure}all that metaprompts.training.nonfinite_dump.replay needs")
    train_state.after_step()
    return losses, lr


def _validate(
    train_state: RunState, split: Split, callbacks: Callback, notes: MetricLogger, between: Callable[[], None]
) -> dict[str, Any]:
    """Score the validation split as in the recipe's test section, but with one forward pass per image.

    ``between`` is called between batches and may raise to end the validation.
    """
    recipe, dist, test = train_state.recipe, train_state.dist, train_state.recipe.test.quick()
    images = EvalDataset(split.samples, split.transforms, test)
    batches = seen_batches(
        images,
        batch_size=recipe.training.val_batch_size,
        workers=recipe.data.num_workers,
        share=(dist.rank, dist.count),
    )
    seen = _with(between, callbacks.on_validation_begin(batches))
    with train_state.unsharded():
        scores = evaluate(train_state.model, seen, metric_kwargs=split.metric_kwargs, test=test, gather=dist.gather)
        if notes.tracks:
            notes.images(train_state.step, sample_images(train_state.model, samples_to_watch(split.samples)))
    return scores


def training_step(
    model: MetaPromptModel, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], max_grad_norm: float | None
) -> dict[str, float]:
    """Take one optimizer step, in this process only.

    Returns:
        the loss terms and their sum, "total"
    """
    return optimizer_step(model, optimizer, [partial(LossModule(model), batch)], max_grad_norm)


def _record(train_state: RunState, scores: dict[str, Any] | None, split: Split) -> None:
    """Store the scores of a validation, if there was one, and the corresponding weights."""
    recipe, history, is_best = train_state.recipe, train_state.history, False
    out = recipe.training.output_dir
    scored = None if scores is None else {"step": train_state.step, **scores}
    if scored is not None:
        history.validations.append(scored)
        is_best = is_as_good(train_state.model.task, scored, history.best)
        history.best = scored if is_best else history.best
    tensors = train_state.tensors()
    skipped = skipped_by_all(split.samples, train_state.dist)
    if not train_state.dist.is_first:
        return
    for folder in ("best", "last") if is_best else ("last",):
        train_state.model.save(out / folder, state=tensors, recipe=recipe.to_dict(), metrics=scored)
    counted = {} if skipped is None else {"skipped": len(skipped)}
    write_json(out / "metrics.json", {"best": history.best, "validations": history.validations, **counted})
    _draw_curves(recipe)


def _draw_curves(recipe: Recipe) -> None:
    out = recipe.training.output_dir
    write_image(out / CURVES_FILE, training_curves(read_lines(out / LOG_FILE), main_metric(recipe.task)))
