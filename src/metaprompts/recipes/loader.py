"""Read a recipe from TOML or JSON, and apply command-line overrides."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

from metaprompts.errors import InputError
from metaprompts.recipes.recipe import Recipe, Training, section_types
from metaprompts.recipes.registry import recipe_names
from metaprompts.tasks import TASKS, importable_tasks
from metaprompts.utils.distributed_env import is_first_process
from metaprompts.utils.files import is_file, parse_toml, read_json, read_toml
from metaprompts.utils.schema import nearest_name

logger = logging.getLogger(__name__)

Overrides = Sequence[str] | Mapping[str, Any]
"""Words of a command line ("--section.key", "value", ... or "--section.key=value", ...), or "section.key" -> value."""

# Setting one of these on the command line unsets the other, which the recipe may have set: a trained model's recipe
# names the shards it was trained from.
_IN_PLACE_OF = {
    "data.root": "data.shards",
    "training.steps": "training.epochs",
    "training.epochs": "training.steps",
    # The list of held-out images is valid only for the data and the fraction that it was drawn with.
    "data.val": "data.held_out",
    "schedule.warmup_steps": "schedule.warmup_fraction",
    "schedule.warmup_fraction": "schedule.warmup_steps",
}
# Key -> the kinds of prompts that use it.
_OF_KINDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("prompts.labels", "prompts.templates"), ("label",)),
    **dict.fromkeys(("prompts.text_source", "prompts.text_fingerprint"), ("label", "caption")),
    **dict.fromkeys(("data.captions", "data.captioner", "data.cache"), ("caption",)),
}


def read_recipe(source: str, overrides: Overrides = ()) -> Recipe:
    """Read a recipe and apply overrides.

    A recipe that begins with ``extends = "nyu"`` contains only the differences from that recipe, which is a shipped
    recipe or a file next to it.

    Args:
        source: the name of a shipped recipe, a .toml file, or the recipe.json of a run
        overrides: keys with their values, as words of a command line or as a mapping

    Raises:
        InputError: the recipe does not exist or is broken TOML, or a key is unknown or has a wrong value
    """
    values = recipe_sections(source)
    pairs = override_pairs(overrides)
    _warn_of_repeated(pairs)
    for key, value in pairs:
        section, _, other = _IN_PLACE_OF.get(key, "").partition(".")
        if isinstance(values.get(section), dict) and (str(value).lower() != "none" or other == "held_out"):
            values[section].pop(other, None)
    for key, value in pairs:
        section, _, name = key.partition(".")
        if not name:
            raise InputError(f"unknown key --{key}: did you mean --{nearest_key(key)}?")
        if not isinstance(values.setdefault(section, {}), dict):
            raise InputError(f"recipe {source}: {section} is {values[section]!r}; expected a section of keys")
        values[section][name] = value
    task, data = values.get("task"), values.get("data", {})
    if isinstance(task, dict) and isinstance(data, Mapping) and task.get("name") in TASKS:
        TASKS[task["name"]].complete(task, data)
    try:
        return Recipe.from_dict(values)
    except InputError as error:
        # In a shipped recipe, only overrides can be wrong.
        raise error if source in recipe_names() else InputError(f"recipe {source}: {error}") from error


def recipe_sections(source: str, extending: tuple[str, ...] = ()) -> dict[str, Any]:
    """The sections of a recipe as plain values, merged into those of the recipe that it extends.

    Args:
        source: as for `read_recipe`
        extending: recipes that extend this one, to detect cycles

    Raises:
        InputError: the recipe does not exist, or is not TOML or JSON
    """
    if source in extending:
        raise InputError(f"recipe {source} extends itself ({' -> '.join((*extending, source))}): break the cycle")
    values = _read_file(source)
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise InputError(f"recipe {source}: extends is {base!r}; expected the name of a recipe or a .toml file")
    place = base if base in recipe_names() else str(Path(source).expanduser().parent / base)
    return _laid_over(recipe_sections(place, (*extending, source)), values)


def nearest_key(word: str) -> str | None:
    """The recipe key, for any task, that best matches a key given without its section."""
    meant: dict[str, str] = {}
    for task in importable_tasks().values():
        # The training section first: "steps" means training.steps.
        sections: dict[str, type[Any]] = {"training": Training, "task": task, **section_types(task.name)}
        for section, kind in sections.items():
            for each in fields(kind):
                key = f"{section}.{each.name}"
                meant.setdefault(each.name, key)
                meant.setdefault(key, key)
    near = nearest_name(word.replace("-", "_"), list(meant))
    return near and meant[near]


def check_prompt_keys(recipe: Recipe, overrides: Overrides) -> None:
    """Check that no override sets a key that the recipe's kind of prompts ignores; the recipe file may set one.

    Args:
        recipe: the recipe with overrides
        overrides: as for `read_recipe`

    Raises:
        InputError: a key of a different kind of prompts is set
    """
    for key, _ in override_pairs(overrides):
        section, _, name = key.partition(".")
        kinds = _OF_KINDS.get(key, (recipe.prompts.kind,))
        value = getattr(getattr(recipe, section), name)
        if recipe.prompts.kind not in kinds and value is not None:
            raise InputError(
                f"{key} applies only if prompts.kind is {' or '.join(kinds)}, but it is {recipe.prompts.kind}: omit "
                f"{key}"
            )


def _laid_over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Merge each section key by key; a value that is not a section is replaced, and is rejected later."""
    merged = dict(base)
    for name, section in own.items():
        under = base.get(name)
        merged[name] = {**under, **section} if isinstance(under, Mapping) and isinstance(section, Mapping) else section
    return merged


def _read_file(source: str) -> dict[str, Any]:
    if source in recipe_names():
        text = (resources.files("metaprompts") / "recipes" / f"{source}.toml").read_text(encoding="utf-8")
        return parse_toml(text, f"recipe {source}")
    path = Path(source).expanduser()
    if not is_file(path):
        raise InputError(f"no recipe {source!r}: give a .toml file or one of {', '.join(recipe_names())}")
    if path.suffix == ".json":
        values = read_json(path)
        if not isinstance(values, dict):
            raise InputError(f"{path} is not a recipe: expected a JSON object of sections")
        return values
    return read_toml(path)


def _warn_of_repeated(pairs: Sequence[tuple[str, Any]]) -> None:
    for key, times in Counter(key for key, _ in pairs).items():
        if times > 1 and is_first_process():
            logger.warning("--%s is given %d times: the last value is used, %s", key, times, dict(pairs)[key])


def override_pairs(words: Overrides) -> list[tuple[str, Any]]:
    """Overrides as (key, value) pairs; values from a command line are strings.

    Args:
        words: as for `read_recipe`

    Raises:
        InputError: a word is not a key, or a key has no value
    """
    if isinstance(words, Mapping):
        return list(words.items())
    pairs = []
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        if not word.startswith("--"):
            raise InputError(f"unexpected {word!r}: recipe keys are given as --section.key value")
        key, equals, value = word[2:].partition("=")
        if not equals:
            if not remaining or remaining[0].startswith("--"):
                raise InputError(f"--{key} has no value: pass --{key} VALUE")
            value = remaining.pop(0)
        pairs.append((key.replace("-", "_"), value))
    return pairs
