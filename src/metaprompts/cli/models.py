"""A model and the recipe that belongs to it, for commands that read data as training did."""

from collections.abc import Callable, Sequence
from pathlib import Path

from metaprompts.embedded import embedded_folder, embedded_models
from metaprompts.errors import InputError
from metaprompts.model import MetaPromptModel, load
from metaprompts.recipe import Recipe, read_recipe


def load_with_recipe(
    source: Path,
    recipe: str | None,
    overrides: Sequence[str],
    choose_device: Callable[[str | None], str | None] = lambda device: device,
) -> tuple[MetaPromptModel, Recipe]:
    """Load a model and read its recipe.

    Args:
        source: a model folder, the name of an embedded model, or a hub id
        recipe: name or file; None for the recipe.json beside the model
        overrides: --section.key, value, ...
        choose_device: from the recipe's device to that of this process

    Raises:
        InputError: one of them cannot be read, or they do not fit each other
    """
    read = read_recipe(recipe or str(_beside(source)), overrides)
    model = load(source, choose_device(read.training.device))
    if model.task.name != read.task.name:
        raise InputError(f"{source} predicts {model.task.name}, the recipe is of {read.task.name}")
    for name in ("classes", "joints", "crop_height", "crop_width"):
        own, wanted = getattr(model.task, name, None), getattr(read.task, name, None)
        if own != wanted:
            raise InputError(f"{source} has task.{name} {own}, the recipe {wanted}: use the recipe of its training")
    return model, read


def _beside(source: Path) -> Path:
    folder = source.expanduser()
    if not folder.is_dir() and str(source) in embedded_models():
        folder = embedded_folder(str(source))
    path = folder / "recipe.json"
    if not path.is_file():
        raise InputError(f"there is no {path}: give a model folder that training wrote, or --recipe RECIPE")
    return path
