"""Recipe keys as options, for commands that read a recipe."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from metaprompts.cli.options import option
from metaprompts.embedded import embedded_folder, embedded_models
from metaprompts.errors import InputError
from metaprompts.recipes.registry import recipe_names


class Section(NamedTuple):
    """A section whose keys are options.

    Attributes:
        name: name of the section
        kind: dataclass of the section
        values: the recipe's own values, shown as defaults
        hidden: whether help and completion omit the keys of this section, as for sections of other tasks
    """

    name: str
    kind: type[Any]
    values: Mapping[str, Any]
    hidden: bool = False


@dataclass(frozen=True, kw_only=True)
class WithRecipeKeys:
    """Base of commands whose first argument is a recipe.

    Attributes:
        overrides: "--section.key=value", ...
    """

    overrides: tuple[str, ...] = ()

    @classmethod
    def sections(cls, words: tuple[str, ...]) -> Iterator[Section]:
        """The sections of the named recipe, and hidden sections of other tasks."""
        # Importing recipes takes a second; help without a recipe skips it.
        if all(word in ("-h", "--help") for word in words):
            return
        from metaprompts.recipes.loader import recipe_sections
        from metaprompts.recipes.recipe import section_types
        from metaprompts.tasks import importable_tasks

        try:
            values = recipe_sections(cls.recipe_of(words))
        except InputError:
            values = {}
        own = values.get("task", {}).get("name")
        for task, settings in sorted(importable_tasks().items(), key=lambda each: each[0] != own):
            for name, kind in {"task": settings, **section_types(task)}.items():
                yield Section(name, kind, values.get(name, {}), hidden=own not in (None, task))

    @classmethod
    def recipe_of(cls, words: tuple[str, ...]) -> str:
        """The recipe that the arguments name; "" if they name none."""
        return next((word for word in words if not word.startswith("-")), "")


@dataclass(frozen=True, kw_only=True)
class WithModelRecipeKeys(WithRecipeKeys):
    """Base of commands whose first argument is a model with a recipe next to it."""

    recipe: str | None = option(None, metavar="RECIPE", names=recipe_names)
    """Recipe that describes how to read the data: a name or file; by default MODEL/recipe.json."""

    @classmethod
    def recipe_of(cls, words: tuple[str, ...]) -> str:
        """The recipe given with --recipe, else that of the model."""
        for word, following in zip(words, [*words[1:], ""], strict=True):
            name, _, value = word.partition("=")
            if name == "--recipe":
                return value or following
        model = super().recipe_of(words)
        folder = embedded_folder(model) if model in embedded_models() else Path(model).expanduser()
        return str(folder / "recipe.json")
