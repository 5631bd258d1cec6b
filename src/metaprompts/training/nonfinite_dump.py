"""Dump a step with a non-finite loss, so that it can be replayed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaprompts.errors import InputError
from metaprompts.models.config import ModelConfig
from metaprompts.models.model import MetaPromptModel
from metaprompts.recipes.recipe import Recipe
from metaprompts.training.batch_norm import configure_batch_norm
from metaprompts.training.checkpoints import restore_rng_state
from metaprompts.training.train_step import LossModule
from metaprompts.utils.checkpoint_files import first_whole_state, write_state


def dump_step(
    model: MetaPromptModel,
    recipe: Recipe,
    tensors: Mapping[str, Tensor],
    passes: Sequence[Mapping[str, Tensor]],
    *,
    step: int,
    rank: int,
    **facts: Any,
) -> Path:
    """Write everything that determines the loss of one process's part of a step.

    Args:
        model: the model that took the step
        recipe: recipe of the run
        tensors: the model's full weights before the step
        passes: images and targets, pass by pass
        step: 1 for the first
        rank: rank of the process
        facts: "files" of the images, "rng_state" before the step, and "loss_batch", the images per loss group

    Returns:
        the file, for `replay`
    """
    path = recipe.training.output_dir / f"not_finite_{step:08d}{f'_process{rank}' if rank else ''}.pt"
    on_cpu = [{name: tensor.cpu() for name, tensor in batch.items()} for batch in passes]
    origin = {"recipe": recipe.to_dict(), "config": model.config.to_dict()}
    write_state(path, {"step": step, **facts, **origin, "passes": on_cpu, "model": dict(tensors)})
    return path


def replay(path: str | Path) -> dict[str, Tensor]:
    """Recompute the losses of a dumped step, with their autograd graph, on the CPU in float32.

    Args:
        path: not_finite_STEP.pt, written by a run

    Returns:
        the loss terms by name, averaged over the passes of that process

    Raises:
        InputError: the file is missing or damaged
    """
    found = first_whole_state([Path(path)])
    if found is None:
        raise InputError(f"no file {path}: give a not_finite_STEP.pt that a run wrote")
    state = found[1]
    recipe = Recipe.from_dict(state["recipe"])
    model = MetaPromptModel(ModelConfig.from_dict(state["config"]))
    model.load_state_dict(state["model"])
    model.latent_encoder.precise = False
    configure_batch_norm(model, recipe.training.batch_norm)
    restore_rng_state(state["rng_state"])
    settings = recipe.training
    loss_batch = state.get("loss_batch", settings.loss_group_size)
    one_pass = LossModule(model, loss_batch, step_decay=settings.step_decay).train()
    losses = [one_pass(batch) for batch in state["passes"]]
    return {name: torch.stack([each[name] for each in losses]).mean() for name in losses[0]}
