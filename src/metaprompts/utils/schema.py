"""Convert plain values (TOML, JSON, command line) to frozen dataclasses and back, with errors that name the key."""

import difflib
import math
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from metaprompts.errors import InputError
from metaprompts.utils.files import parse_toml

_NONE = {"none", "null", "off"}
_LONGEST_SHOWN = 60
T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """The range of a numeric key, given with its type: ``Annotated[int, Range(1, 64)]``.

    Attributes:
        low: the smallest value
        high: the largest value
        above: whether ``low`` is excluded
        below: whether ``high`` is excluded
    """

    low: float
    high: float
    above: bool = False
    below: bool = False

    def __contains__(self, number: float) -> bool:
        # NaN fails both comparisons.
        is_high_enough = number > self.low if self.above else number >= self.low
        return is_high_enough and (number < self.high if self.below else number <= self.high)

    def __str__(self) -> str:
        low, high = (
            str(int(end)) if float(end).is_integer() and end < 1e15 else f"{end:g}" for end in (self.low, self.high)
        )
        return f"{'more than ' if self.above else ''}{low} to {'below ' if self.below else ''}{high}"


def check_ranges(settings: Any, where: str) -> None:
    """Check every number of a dataclass against the `Range` of its type; called by its ``__post_init__``.

    Args:
        settings: an instance
        where: the section's name, for errors; "" if it has none

    Raises:
        InputError: a number is out of its range, or not a number
    """
    for name, hint in type_hints(type(settings)).items():
        value = getattr(settings, name)
        for number, allowed in _ranged(hint, value):
            if not isinstance(number, int | float) or number not in allowed:
                raise InputError(f"{_join(where, name)} is {_shown(value)}; expected {allowed}")


def _ranged(hint: Any, value: Any) -> Iterator[tuple[Any, Range]]:
    """Every number in a value, with its range."""
    origin, parts = get_origin(hint), get_args(hint)
    if value is None:
        return
    if origin is Annotated:
        yield from ((value, part) for part in parts[1:] if isinstance(part, Range))
    elif origin in (Union, types.UnionType):
        # A string is not an out-of-range number.
        is_text = isinstance(value, str) and str in parts
        for part in () if is_text else parts:
            yield from _ranged(part, value)
    elif origin is tuple and isinstance(value, tuple):
        kinds = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        for part, item in zip(kinds, value, strict=False):
            yield from _ranged(part, item)


def type_hints(kind: type[Any]) -> dict[str, Any]:
    """The type of each field of a dataclass, with its range."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind) if field.init}


def _shown(value: Any) -> str:
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}..."


def from_dict(kind: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Create a dataclass from plain values.

    Args:
        kind: a dataclass whose fields are plain types, tuples, Literals, paths or dataclasses, any of them optional
            (None)
        values: key -> value; strings are parsed as the field's type, so words of a command line are accepted
        where: dotted name of this part, for errors

    Raises:
        InputError: a key is unknown (the message names the nearest one) or missing, or a value has the wrong type
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{where} is {values!r}; expected a section of keys")
    known = {field.name: field for field in fields(kind) if field.init}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise InputError(unknown_key(_join(where, key), [_join(where, name) for name in known]))
    hints = type_hints(kind)
    made = {key: convert(hints[key], value, _join(where, key)) for key, value in values.items()}
    missing = [_join(where, name) for name, field in known.items() if name not in made and default_of(field) is MISSING]
    if missing:
        raise InputError(f"missing {', '.join(missing)}: give a value")
    return kind(**made)


def unknown_key(key: str, known: list[str]) -> str:
    """The error message for an unknown key, with the nearest known key."""
    near = nearest_name(key, known)
    return f"unknown key {key}: did you mean {near}?" if near else f"unknown key {key}: no keys are known here"


def nearest_name(word: str, known: Sequence[str], cutoff: float = 0.0) -> str | None:
    """The name closest to a word; names that begin with it come first. None if similarity is below `cutoff`."""
    longer = [name for name in known if name.startswith(word)]
    return next(iter(difflib.get_close_matches(word, longer or known, n=1, cutoff=0.0 if longer else cutoff)), None)


def to_dict(value: Any) -> Any:
    """A dataclass as plain values, ready for JSON; the inverse of `from_dict`."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_dict(getattr(value, field.name)) for field in fields(value) if field.init}
    if isinstance(value, Mapping):
        return {key: to_dict(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_dict(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def default_of(field: Field[Any]) -> Any:
    """The default value of a dataclass's field; MISSING if it is required."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def convert(kind: Any, value: Any, where: str) -> Any:
    """Convert one value to a type; `from_dict` does so for every field.

    Args:
        kind: the type, as for a field of `from_dict`'s dataclass
        value: a plain value
        where: dotted name of the value, for errors

    Raises:
        InputError: the value is of the wrong type
    """
    try:
        return _convert_unchecked(kind, value, where)
    except InputError:
        raise
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"{where} is {_shown(repr(value))}; expected {_describe(kind)}") from error


def _convert_unchecked(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        return _convert_unchecked(get_args(kind)[0], value, where)
    if origin in (Union, types.UnionType):
        return _convert_optional(kind, value, where)
    if origin is Literal:
        if value not in get_args(kind):
            raise ValueError(value)
        return value
    if origin is tuple:
        return _convert_tuple(kind, value, where)
    if is_dataclass(kind):
        return from_dict(kind, value, where)  # type: ignore[arg-type]
    if origin is dict:
        return dict(value) if isinstance(value, Mapping) else _read_table(value)
    return _convert_scalar(kind, value)


def _convert_optional(kind: Any, value: Any, where: str) -> Any:
    inner = [part for part in get_args(kind) if part is not type(None)]
    if value is None or (isinstance(value, str) and value.lower() in _NONE):
        return None
    for part in inner[:-1]:
        try:
            return _convert_unchecked(part, value, where)
        except (InputError, ValueError, TypeError):
            continue
    return _convert_unchecked(inner[-1], value, where)


def _convert_tuple(kind: Any, value: Any, where: str) -> tuple[Any, ...]:
    parts = get_args(kind)
    if isinstance(value, str):
        try:
            # A single word may be a list of one word.
            value = [] if value.lower() in _NONE and parts[0] is not str else _read_list(value)
        except InputError as error:
            raise ValueError(value) from error
    if len(parts) == 2 and parts[1] is Ellipsis:
        return tuple(convert(parts[0], item, where) for item in value)
    if len(value) != len(parts):
        raise ValueError(value)
    return tuple(convert(part, item, where) for part, item in zip(parts, value, strict=True))


def _read_list(text: str) -> list[Any]:
    """``[1, 2]`` as in TOML, or ``1,2`` as on a command line."""
    if text.strip().startswith("["):
        return list(parse_toml(f"x = {text}", text)["x"])
    items = [item.strip() for item in text.split(",")]
    # The list may end with a comma; the parser of items reports empty items.
    return items if items[-1] else items[:-1]


def _read_table(text: str) -> dict[str, Any]:
    """``{ 255 = "car" }`` as in TOML, or ``255=car,0=road`` as on a command line; keys may have commas."""
    if text.strip().startswith("{"):
        return dict(parse_toml(f"x = {text}", text)["x"])
    table: dict[str, Any] = {}
    key = ""
    for item in text.split(","):
        before, equals, value = (part.strip() for part in item.partition("="))
        key = f"{key},{before}" if key else before
        if not equals:
            continue
        if not key or not value or key in table:
            raise ValueError(text)
        table[key] = int(value) if value.isdecimal() else value
        key = ""
    if key or not table:
        raise ValueError(text)
    return table


def _convert_scalar(kind: Any, value: Any) -> Any:
    if kind is bool:
        words = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}
        return value if isinstance(value, bool) else words[value.lower()] if value.lower() in words else _refuse(value)
    if isinstance(value, bool):
        raise TypeError(value)
    if kind is Path:
        # An empty path would mean the current folder.
        return _refuse(value) if value == "" else Path(value).expanduser()
    if kind is str:
        return value if isinstance(value, str) else _refuse(value)
    if kind is int and isinstance(value, float) and not value.is_integer():
        raise ValueError(value)
    number = kind(value)
    # NaN and infinity are never valid settings, and few range checks catch them.
    return number if kind is not float or math.isfinite(number) else _refuse(value)


def _refuse(value: Any) -> Any:
    raise TypeError(value)


def _describe(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is Annotated:
        return _describe(get_args(kind)[0])
    if origin is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if origin in (Union, types.UnionType):
        return " or ".join("none" if part is type(None) else _describe(part) for part in get_args(kind))
    if origin is tuple:
        parts = get_args(kind)
        return f"a list of {_describe(parts[0])}" if parts[-1] is Ellipsis else f"{len(parts)} values"
    if is_dataclass(kind):
        return "a section of keys"
    if origin is dict:
        return "KEY=VALUE,KEY=VALUE,... or a TOML table"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
    return names.get(kind, str(kind))
