"""Map an option's type to click's settings, the placeholder of its value in help, and completions."""

import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
from click.shell_completion import CompletionItem

from metaprompts.utils.schema import Range

Names = Callable[[], Sequence[str]]


def type_settings(hint: Any) -> dict[str, Any]:
    """Click's settings for a type: its type, and whether it is a flag or repeated."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        allowed = next((part for part in parts[1:] if isinstance(part, Range)), None)
        return {"type": _number(parts[0], allowed)} if allowed else type_settings(parts[0])
    if origin in (Union, types.UnionType):
        inner = [part for part in parts if part is not type(None)]
        if len(inner) == 2 and get_origin(inner[1]) is Literal and get_origin(inner[0]) is Annotated:
            return {"type": _NumberOrWord(type_settings(inner[0])["type"], get_args(inner[1]))}
        # A union of Literals offers the choices of all of them.
        return type_settings(inner[0] if len(inner) == 1 else Literal[tuple(_values(hint))])
    if origin is tuple:
        if parts[-1] is Ellipsis:
            return {**type_settings(parts[0]), "multiple": True}
        return {"type": tuple(type_settings(part)["type"] for part in parts)}
    if origin is Literal:
        return {"type": click.Choice(parts)}
    if hint is bool:
        return {"is_flag": True}
    if hint is Path:
        return {"type": click.Path(path_type=Path)}
    return {"type": _number(hint, None) if hint in (int, float) else str}


class _NumberOrWord(click.ParamType[Any]):
    """A number, or one of a few words."""

    name = "number or word"

    def __init__(self, number: click.IntRange, words: Sequence[str]) -> None:
        self._number, self._words = number, words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The word, or the number."""
        if value in self._words:
            return value
        if isinstance(value, str) and not value.lstrip("-").isdecimal():
            self.fail(f"{value!r} is neither a number nor {' or '.join(self._words)}", param, ctx)
        return self._number.convert(value, param, ctx)


def _number(kind: type[Any], allowed: Range | None) -> Any:
    if allowed is None:
        return kind
    ends = {"min": kind(allowed.low), "max": kind(allowed.high), "min_open": allowed.above, "max_open": allowed.below}
    return click.IntRange(**ends) if kind is int else click.FloatRange(**ends)


def name_completer(names: Names) -> Any:
    """Complete names, in addition to files."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(name) for name in names() if name.startswith(incomplete)]
        # click's script for bash forgets the completions before a "file".
        return [CompletionItem(incomplete, type="file"), *found]

    return complete


def metavar_of(hint: Any) -> str:
    """The name of a key's value in help."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return metavar_of(parts[0])
    if origin in (Union, types.UnionType):
        return metavar_of(next(part for part in parts if part is not type(None)))
    if origin is Literal:
        return f"[{'|'.join(map(str, parts))}]"
    if origin is tuple:
        shown = [metavar_of(part) for part in parts if part is not Ellipsis]
        return ",".join([*shown * 2, "..."] if parts[-1] is Ellipsis else shown)
    if origin is dict:
        return "KEY=VALUE,..."
    names = {bool: "[true|false]", int: "INTEGER", float: "FLOAT", Path: "PATH"}
    return names.get(hint, "TEXT")


def value_completer(hint: Any) -> Any:
    """Complete the values of a key: those of its Literal, true and false, none, or files."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        values = [value for value in _values(hint) if value.startswith(incomplete)]
        return [CompletionItem(value) for value in values] or [CompletionItem(incomplete, type="file")]

    return complete


def _values(hint: Any) -> Iterator[str]:
    if hint is bool:
        yield from ("true", "false")
    elif hint is type(None):
        yield "none"
    elif get_origin(hint) is Literal:
        yield from map(str, get_args(hint))
    elif get_origin(hint) in (Union, types.UnionType):
        for part in get_args(hint):
            yield from _values(part)
