"""All recipe keys, with defaults and descriptions."""

from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import Any

from docstring_parser import parse
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from metaprompts.recipes.recipe import Recipe, section_types
from metaprompts.tasks import TASKS
from metaprompts.utils.schema import to_dict

_REQUIRED = "to be given"


def print_recipe(name: str, recipe: Recipe) -> None:
    """Print a table for each section of a recipe: its values, and defaults where they differ."""
    console = Console()
    console.print(f"metaprompts train {name} [--section.key value ...]\n", markup=False)
    for section in ("task", *section_types(recipe.task.name)):
        settings = getattr(recipe, section)
        values = {field.name: _shown(to_dict(getattr(settings, field.name))) for field in _fields(type(settings))}
        console.print(_section_table(section, section, type(settings), values))


def print_all_keys() -> None:
    """Print a table for each section of any recipe; four of them depend on the task."""
    console = Console()
    for title, section, kind in _sections():
        console.print(_section_table(title, section, kind, {}))


def _sections() -> Iterator[tuple[str, str, type[Any]]]:
    """Title, name and kind of every section, grouped by task."""
    by_task = {task: {"task": kind, **section_types(task)} for task, kind in TASKS.items()}
    common = [name for name in next(iter(by_task.values())) if len({kinds[name] for kinds in by_task.values()}) == 1]
    for name in common:
        yield name, name, next(iter(by_task.values()))[name]
    for task, kinds in by_task.items():
        for name, kind in kinds.items():
            if name not in common:
                yield f"{name}, of {task}", name, kind


def _section_table(title: str, section: str, kind: type[Any], values: dict[str, str]) -> Table:
    """One row per key: its description, the recipe's value if it is not the default, and the default."""
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None, padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    meanings = _meanings(kind)
    for field in _fields(kind):
        default = _default(field)
        value = values.get(field.name, default)
        shown = f"default: {default}" if value == default else f"here: {value}; default: {default}"
        # Square brackets in descriptions and values are not rich markup.
        table.add_row(f"--{section}.{field.name}", escape(f"{meanings.get(field.name, '')} ({shown})".lstrip()))
    return table


def _fields(kind: type[Any]) -> list[Field[Any]]:
    return [field for field in fields(kind) if field.init]


def _default(field: Field[Any]) -> str:
    if field.default_factory is not MISSING:
        return _shown(to_dict(field.default_factory()))
    return _REQUIRED if field.default is MISSING else _shown(to_dict(field.default))


def _meanings(kind: type[Any]) -> dict[str, str]:
    """Attribute -> its description, from the docstrings of a dataclass and its base classes."""
    found: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        for entry in parse(owner.__doc__ or "").params:
            found[entry.arg_name] = " ".join((entry.description or "").split())
    return found


def _shown(value: Any) -> str:
    if isinstance(value, list):
        shown = ", ".join(map(str, value)) or "nothing"
        return shown if len(shown) <= 60 else f"{len(value)} entries"
    return "none" if value is None else str(value)
