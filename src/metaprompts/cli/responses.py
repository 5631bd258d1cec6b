"""Prompts measured over a data set, for ``metaprompts heatmaps MODEL --data.root DIR``."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from metaprompts.errors import InputError

if TYPE_CHECKING:
    from metaprompts.evaluation.preferences import DepthPreferences, Preferences
    from metaprompts.model import MetaPromptModel
    from metaprompts.recipe import Recipe

_SHOWN = 10


def measure(
    source: str,
    recipe: str | None,
    overrides: Sequence[str],
    *,
    out: Path,
    level: int | Literal["mean"],
    device: str | None,
) -> int:
    """Measure what every prompt of a model responds to over the validation split of a recipe.

    Args:
        source: of the model
        recipe: name or file; None for the one beside the model
        overrides: --section.key, value, ...
        out: folder for responses.json, responses.md and responses.png
        level: see `explaining.Level`
        device: where to compute; None for the recipe's, or the GPU if there is one

    Raises:
        InputError: model, recipe or data cannot be read, or do not fit each other
    """
    from metaprompts.explaining import prompt_responses
    from metaprompts.model import load
    from metaprompts.recipe import read_recipe
    from metaprompts.training.data import validation_batches, validation_split
    from metaprompts.training.progress import ProgressLine

    beside = Path(source) / "recipe.json"
    if recipe is None and not beside.is_file():
        raise InputError(f"there is no {beside}: give a model folder that training wrote, or --recipe RECIPE")
    read = read_recipe(recipe or str(beside), overrides)
    model = load(source, device or read.training.device)
    _refuse_other_task(model, read, source)
    split = validation_split(read)
    batches = ProgressLine().validating(validation_batches(split, read))
    responses = prompt_responses(model, batches, level=level)
    _write(responses, out, f"{source}, level {level}, {len(split.samples)} validation samples")
    return 0


def _refuse_other_task(model: "MetaPromptModel", recipe: "Recipe", source: str) -> None:
    if model.task.name != recipe.task.name:
        raise InputError(f"{source} predicts {model.task.name}, the recipe is of {recipe.task.name}")
    for name in ("classes", "joints", "crop_height", "crop_width"):
        own, wanted = getattr(model.task, name, None), getattr(recipe.task, name, None)
        if own != wanted:
            raise InputError(f"{source} has task.{name} {own}, the recipe {wanted}: use the recipe of its training")


def _write(responses: "Preferences | DepthPreferences", out: Path, title: str) -> None:
    from metaprompts.files import write_json, write_text, write_whole

    table = responses.table()
    write_json(out / "responses.json", responses.plain())
    write_text(out / "responses.md", f"# What the prompts respond to\n\n{title}\n\n{table}")
    with write_whole(out / "responses.png") as scratch:
        responses.show().save(scratch)
    lines = table.splitlines(keepends=True)
    sys.stdout.write("".join(lines[: _SHOWN + 2]))
    if len(lines) > _SHOWN + 2:
        sys.stdout.write(f"and {len(lines) - _SHOWN - 2} more prompts\n")
    sys.stdout.write(f"results in {out}\n")
