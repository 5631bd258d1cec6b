"""All keys of a recipe, with their values and what they mean."""

from dataclasses import fields
from typing import Any

from docstring_parser import parse
from rich.console import Console
from rich.table import Table

from metaprompts.recipe import Recipe, section_types
from metaprompts.typed import plain


def print_recipe(name: str, recipe: Recipe) -> None:
    """Print a table for each section of a recipe."""
    console = Console()
    console.print(f"metaprompts train {name} [--section.key value ...]\n", markup=False)
    for section in ("task", *section_types(recipe.task.name)):
        console.print(_section_table(section, getattr(recipe, section)))


def _section_table(section: str, settings: Any) -> Table:
    table = Table(title=section, title_justify="left", title_style="bold", show_header=False, box=None, padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold", max_width=34)
    table.add_column(overflow="fold")
    meanings = _meanings(type(settings))
    for field in fields(settings):
        table.add_row(
            f"--{section}.{field.name}", _shown(plain(getattr(settings, field.name))), meanings.get(field.name, "")
        )
    return table


def _meanings(kind: type[Any]) -> dict[str, str]:
    """Attribute -> its description, from the docstrings of a dataclass and those it extends."""
    found: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        for entry in parse(owner.__doc__ or "").params:
            found[entry.arg_name] = " ".join((entry.description or "").split())
    return found


def _shown(value: Any) -> str:
    if isinstance(value, list):
        shown = ", ".join(map(str, value))
        return shown if len(shown) <= 60 else f"{len(value)} entries"
    return "none" if value is None else str(value)
