"""A model and the recipe that belongs to it, for commands that read data as training did."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from metaprompts.embedded import embedded_folder, embedded_models
from metaprompts.errors import InputError
from metaprompts.models.loading import load
from metaprompts.models.model import MetaPromptModel
from metaprompts.recipes.loader import Overrides, check_prompt_keys, override_pairs, read_recipe
from metaprompts.recipes.recipe import Recipe
from metaprompts.utils.files import read_json
from metaprompts.utils.hub import hub_folder
from metaprompts.utils.wording import counted

_RECIPE = "recipe.json"
_OF_THE_MODEL = ("task", "prompts", "refinement", "rearrangement")
# These keys determine how joints are mirrored and scored; they do not affect the weights.
_ABOUT_JOINTS = ("flip_pairs", "sigmas")


def load_with_recipe(
    source: Path,
    recipe: str | None,
    overrides: Overrides,
    choose_device: Callable[[str | None], str | None] = lambda device: device,
    *,
    reads_data: bool = True,
) -> tuple[MetaPromptModel, Recipe]:
    """Load a model and read its recipe.

    Args:
        source: a model folder, the name of an embedded model, or a hub id
        recipe: name or file; None for the recipe.json next to the model, locally or on the hub
        overrides: as for `read_recipe`
        choose_device: maps the recipe's device to the device of this process
        reads_data: whether to check that the recipe's data exists before the slow loading of the model

    Raises:
        InputError: model or recipe cannot be read, or they do not match
    """
    read = read_recipe(recipe or str(_recipe_next_to(source)), overrides)
    if recipe is None:
        _check_same_share(source, read)
    if reads_data:
        read.data.names_from("val")
    if read.training.num_threads is not None:
        torch.set_num_threads(read.training.num_threads)
    model = load(source, choose_device(read.training.device))
    if model.task.name != read.task.name:
        raise InputError(f"{source} predicts {model.task.name}, but the recipe is for {read.task.name}")
    for name in ("classes", "joints", "crop_height", "crop_width", "min_depth_m", "max_depth_m"):
        own, expected = getattr(model.task, name, None), getattr(read.task, name, None)
        if own != expected:
            hint = ", or map the masks' values, --data.label_map VALUE=CLASS,..." if name == "classes" else ""
            raise InputError(
                f"{source} has task.{name} {own}, but the recipe has {expected}: use the recipe that trained it{hint}"
            )
    _check_overrides(source, model, read, overrides)
    # The model is fixed: the recipe's crops, ranges and prompts must be those of its training.
    # Only the location of the text encoder may change.
    prompts = model.config.prompts
    prompts = replace(prompts, text_source=read.prompts.text_source or prompts.text_source)
    joints = {name: value for name in _ABOUT_JOINTS if (value := getattr(read.task, name, None)) is not None}
    model.task = replace(model.task, **joints)
    model.config = replace(model.config, task=model.task)
    read = replace(read, task=model.task, prompts=prompts)
    check_prompt_keys(read, overrides)
    return model, read


def _check_overrides(source: Path, model: MetaPromptModel, read: Recipe, overrides: Overrides) -> None:
    """Check that no override sets a key that only training can change."""
    for name, _ in override_pairs(overrides):
        section, _, key = name.partition(".")
        if section not in _OF_THE_MODEL or key in ("text_source", *_ABOUT_JOINTS):
            continue
        own, expected = getattr(getattr(model.config, section), key), getattr(getattr(read, section), key)
        if own != expected:
            raise InputError(
                f"{source} was trained with {section}.{key} {own}, and only training can change it to {expected}: "
                "omit it"
            )


def _recipe_next_to(source: Path) -> Path:
    folder, name = source.expanduser(), str(source)
    if not folder.is_dir() and name in embedded_models():
        folder = embedded_folder(name)
    elif not folder.exists() and len(source.parts) == 2 and not folder.is_absolute() and not name.startswith("."):
        folder = hub_folder(name, [_RECIPE])
    path = folder / _RECIPE
    if not path.is_file():
        raise InputError(f"{path} does not exist: give a model folder that training wrote, or --recipe RECIPE")
    return path


def _check_same_share(source: Path, recipe: Recipe) -> None:
    """Check the fraction held out for validation; a different fraction would contain training images."""
    if recipe.data.val_share is None or recipe.data.held_out is not None:
        return
    trained = read_json(_recipe_next_to(source)).get("data", {}).get("held_out")
    if trained:
        raise InputError(
            f"{source} was trained without the {counted(len(trained), 'image')} that its recipe.json names, but "
            f"--data.val {recipe.data.val_share:g} holds out others, which it was trained on: omit --data.val, or "
            "name a list"
        )
