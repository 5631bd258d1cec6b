"""Write the pages of the documentation that are generated from the code: commands, recipes, recipe keys, Python API.

The build of the documentation does so itself (docs/conf.py); alone: python scripts/docs_pages.py [FOLDER]
"""

import re
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module, resources
from inspect import isclass, isfunction
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType

import click

import metaprompts
from metaprompts.cli.commands import command_line
from metaprompts.recipes.loader import recipe_sections
from metaprompts.recipes.registry import recipe_names

ROOT = Path(__file__).resolve().parents[1]
# Recipes whose keys are listed: one for each task.
KEYS_OF = ("ade20k", "nyu", "coco_pose", "scenes_normals")
_NAME = re.compile(r"\bmetaprompts(?:\.[A-Za-z_]\w*)+")
_IMPORT = re.compile(r"^from (metaprompts[\w.]*) import (.+)$", re.MULTILINE)


def pages() -> dict[str, str]:
    """File name -> Markdown text of every generated page."""
    return {"commands.md": commands_page(), "recipes.md": recipes_page(), "keys.md": keys_page(), "api.md": api_page()}


def write_pages(folder: Path) -> None:
    """Write all pages into a folder; unchanged ones are not touched, so that incremental builds stay fast."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, as in ``data check``."""
    top = command_line()
    with click.Context(top, info_name="metaprompts") as context:
        for name in top.list_commands(context):
            command = top.get_command(context, name)
            if isinstance(command, click.Group):
                for inner in command.list_commands(context):
                    yield f"{name} {inner}", command.get_command(context, inner)  # type: ignore[misc]
            else:
                yield name, command  # type: ignore[misc]


def commands_page() -> str:
    """The help of every command."""
    parts = [
        "# Commands\n\nThe output of `metaprompts COMMAND --help`. Recipe keys are on [their own page](keys.md).\n"
    ]
    for name, command in commands():
        parts.append(f"## {name}\n\n```text\n{_help(command, name)}\n```\n")
    return "\n".join(parts)


def keys_page() -> str:
    """All keys of the recipes of each task, as ``train RECIPE --help`` lists them."""
    parts = [
        "# Recipe keys\n\nWhat `metaprompts train RECIPE --help` lists, with the values of one recipe for each task. "
        "In a recipe file, `--section.key` is the key of a table: `[section]`, `key = value`.\n"
    ]
    train = dict(commands())["train"]
    for recipe in KEYS_OF:
        context = click.Context(train, info_name="metaprompts train", terminal_width=100, max_content_width=100)
        context.obj = [recipe]
        params = [each for each in train.get_params(context) if isinstance(each, click.Option)]
        keys = [each for each in params if "." in each.opts[0] and not each.hidden]
        rows = [row for each in keys if (row := each.get_help_record(context))]
        formatter = context.make_formatter()
        formatter.write_dl(rows)
        task = recipe_sections(recipe)["task"]["name"]
        parts.append(f"## {task.capitalize()}: {recipe}\n\n```text\n{formatter.getvalue().rstrip()}\n```\n")
    return "\n".join(parts)


def recipes_page() -> str:
    """Every shipped recipe, as its file."""
    parts = ["# Recipe files\n\nEach recipe that ships with the package; [recipes](../recipes.md) explains them.\n"]
    folder = resources.files("metaprompts") / "recipes"
    for name in recipe_names():
        text = (folder / f"{name}.toml").read_text(encoding="utf-8").rstrip()
        parts.append(f"## {name}\n\n```toml\n{text}\n```\n")
    return "\n".join(parts)


def public_names() -> dict[str, list[str]]:
    """Module -> its public names: those in ``__all__``, and those that the documents import or mention."""
    found: dict[str, list[str]] = {}
    for module in walk_packages(metaprompts.__path__, "metaprompts."):
        path = ROOT / "src" / Path(*module.name.split(".")) / "__init__.py"
        if module.ispkg and "__all__" in path.read_text(encoding="utf-8"):
            found[module.name] = list(import_module(module.name).__all__)
    found["metaprompts"] = [name for name in metaprompts.__all__ if name != "__version__"]
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for text in (path.read_text(encoding="utf-8") for path in documents):
        imported = [(module, name) for module, names in _IMPORT.findall(text) for name in re.findall(r"\w+", names)]
        names = _NAME.findall(text)
        mentioned = [tuple(name.rsplit(".", 1)) for name in names]
        mentioned += [(module, name) for module in names for name in _defined_in(module)]
        for module, name in [*imported, *mentioned]:
            if _is_documented(module, name) and name not in found.setdefault(module, []):
                found[module].append(name)
    return {module: found[module] for module in sorted(found) if found[module]}


def api_page() -> str:
    """The reference of all public names, for Sphinx's autodoc."""
    parts = ["# Python reference\n\n[From Python](../python.md) has examples.\n"]
    for module, names in public_names().items():
        parts.append(f"## {module}\n")
        for name in names:
            parts.append(f"```{{eval-rst}}\n{_directive(module, name)}```\n")
    return "\n".join(parts)


def _defined_in(name: str) -> list[str]:
    """The public names that a module defines; none if the name is not that of a module, or of a package."""
    path = ROOT / "src" / Path(*name.split(".")).with_suffix(".py")
    if not path.is_file():
        return []
    module = import_module(name)
    return [
        each
        for each, value in vars(module).items()
        if not each.startswith("_") and (isclass(value) or isfunction(value)) and value.__module__ == name
    ]


def _directive(module: str, name: str) -> str:
    """What tells autodoc to describe an object."""
    value = getattr(import_module(module), name)
    if isinstance(value, type):
        kind = "exception" if issubclass(value, BaseException) else "class"
        return f".. auto{kind}:: {module}.{name}\n   :members:\n"
    if isfunction(value):
        return f".. autofunction:: {module}.{name}\n"
    # Autodoc would show the docstring of the type, such as dict.
    is_list = isinstance(value, Iterable) and not isinstance(value, str)
    names = [each for each in value if isinstance(each, str)] if is_list else []
    listed = ", ".join(f"``{each}``" for each in names or [value])
    return f".. py:data:: {module}.{name}\n\n   {listed}\n"


def _is_documented(module: str, name: str) -> bool:
    """Whether a dotted name in a document is an object of a module, rather than a module or a file."""
    try:
        value = getattr(import_module(module), name)
    except (ImportError, AttributeError):
        return False
    return not isinstance(value, ModuleType) and not name.startswith("_")


def _help(command: click.Command, name: str) -> str:
    with click.Context(command, info_name=f"metaprompts {name}", terminal_width=100, max_content_width=100) as context:
        return command.get_help(context)


def main(words: list[str]) -> None:
    """Write the pages."""
    write_pages(Path(words[0]) if words else ROOT / "docs/generated")


if __name__ == "__main__":
    main(sys.argv[1:])
