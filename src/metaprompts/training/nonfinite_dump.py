"""Dump a step with a non-finite loss, so that it can be replayed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class NonFiniteStep:
    """One process's part of a step.

    Attributes:
        step: 1 for the first
        rank: rank of the process
        passes: images and targets, pass by pass
        files: files of the images
        rng_state: the generators before the step
        loss_batch: images per loss group; None for all images of a pass
    """

    step: int
    rank: int
    passes: Sequence[Mapping[str, Tensor]]
    files: Sequence[str]
    rng_state: Mapping[str, Any]
    loss_batch: int | None = None


def dump_step(kept: NonFiniteStep, model: MetaPromptModel, tensors: Mapping[str, Tensor], recipe: Recipe) -> Path:
    """Write everything that determines a step's loss.

    Args:
        kept: the step
        model: the model that took the step
        tensors: the model's full weights before the step
        recipe: recipe of the run

    Returns:
        the file, for `replay`
    """
    name = f"not_finite_{kept.step:08d}{f'_process{kept.rank}' if kept.rank else ''}.pt"
    path = recipe.training.output_dir / name
    passes = [{key: tensor.cpu() for key, tensor in batch.items()} for batch in kept.passes]
    facts = {
        "step": kept.step,
        "files": list(kept.files),
        "rng_state": dict(kept.rng_state),
        "recipe": recipe.to_dict(),
    }
    facts["loss_batch"] = kept.loss_batch
    write_state(path, {**facts, "passes": passes, "model": dict(tensors), "config": model.config.to_dict()})
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
