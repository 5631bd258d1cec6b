"""A step whose loss was not finite, kept so that it can be looked at again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from metaprompts.config import ModelConfig
from metaprompts.errors import InputError
from metaprompts.model import MetaPromptModel
from metaprompts.recipe import Recipe
from metaprompts.training.checkpoints import restore_chance
from metaprompts.training.states import first_whole_state, write_state

_NAMED_AT_MOST = 8


def keep_step(
    folder: Path,
    step: int,
    model: MetaPromptModel,
    batch: Mapping[str, Tensor],
    files: Sequence[str],
    chance: Mapping[str, Any],
    recipe: Recipe,
) -> Path:
    """Write all that a step's loss follows from.

    Args:
        folder: of the training
        step: 1 for the first
        model: with the weights that the step was taken with
        batch: the pictures and targets
        files: of the pictures
        chance: the generators before the step
        recipe: of the training

    Returns:
        the file, for `replay`
    """
    path = folder / f"not_finite_{step:08d}.pt"
    facts = {"step": step, "files": list(files), "chance": dict(chance), "recipe": recipe.plain()}
    batch = {name: tensor.cpu() for name, tensor in batch.items()}
    write_state(path, {**facts, "batch": batch, "model": model.state_dict(), "config": model.config.plain()})
    return path


def replay(path: str | Path) -> dict[str, Tensor]:
    """Compute the losses of a kept step again, with their graph, on the CPU.

    Args:
        path: not_finite_STEP.pt, which a training wrote

    Returns:
        the loss's parts by name

    Raises:
        InputError: the file is missing or damaged
    """
    found = first_whole_state([Path(path)])
    if found is None:
        raise InputError(f"no file {path}: give the not_finite_STEP.pt that a training wrote")
    state = found[1]
    recipe = Recipe.from_plain(state["recipe"])
    model = MetaPromptModel(ModelConfig.from_plain(state["config"]))
    model.load_state_dict(state["model"])
    model.latent_encoder.precise = False
    restore_chance(state["chance"])
    losses: dict[str, Tensor] = recipe.task.losses(
        *model.train().training_outputs(state["batch"]["image"]), state["batch"]
    )
    return losses


def shown_files(files: Sequence[str]) -> str:
    """The first files' names."""
    more = len(files) - _NAMED_AT_MOST
    return ", ".join(files[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
