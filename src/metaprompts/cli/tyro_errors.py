"""Parse the command line into a command's settings; errors are reported in one line."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any, TypeVar

import tyro

from metaprompts.cli.overrides import check_not_empty, warn_of_repeated
from metaprompts.errors import InputError

T = TypeVar("T")

# If the output's encoding lacks box characters, tyro uses dashes and spaces.
_RULE = re.compile(r"(─|-){5,}")
_FRAMED = re.compile(r"(│ |  )?(?P<inner>.*?)[│ ]*$")
_GIVEN = re.compile(r"\[?(['\"])(?P<value>.*?)\1\]?\.?$")
_BETWEEN = "', '"
_PLACE = re.compile(r" \(applied to [^)]*\)")
_ITEM = "    "
# Larger counts are useless, and some would overflow.
_LARGEST, _LARGEST_SEED = 10**9, 2**53


def parse(kind: type[T], words: Sequence[str], prog: str, *, prefixes: bool = False) -> T:
    """Parse arguments as `tyro.cli` does.

    Args:
        kind: the dataclass to create
        words: arguments without the program's name
        prog: program name for messages
        prefixes: whether options of a nested config have its name as prefix, for example --vae.steps

    Raises:
        InputError: tyro cannot parse the arguments, a value is empty, or a number is too large
        SystemExit: help was requested and printed
    """
    _check_options(kind, words)
    said = io.StringIO()
    settings: tuple[Any, ...] = () if prefixes else (tyro.conf.OmitArgPrefixes,)
    try:
        with redirect_stderr(said):
            read = tyro.cli(kind, prog=prog, args=list(words), config=(*settings, tyro.conf.FlagCreatePairsOff))
    except SystemExit as end:
        if not end.code:
            raise
        raise InputError(_one_line(said.getvalue(), prog)) from None
    _check_numbers(read)
    return read


def _check_options(kind: Any, words: Sequence[str]) -> None:
    """Check that only text options are empty, and warn about options given more than once."""
    spelled = {f"--{each.name.replace('_', '-')}": each.type for each in fields(kind)}
    seen: set[str] = set()
    for word, following in pairwise([*words, "--"]):
        option, equals, value = word.replace("_", "-").partition("=")
        if not option.startswith("--"):
            continue
        value = value if equals else following
        # An empty text is also a valid caption.
        if option != "--caption":
            check_not_empty(option, value)
        is_list = tyro.conf.UseAppendAction in getattr(spelled.get(option), "__metadata__", ())
        if option in seen and not is_list:
            warn_of_repeated(option, value)
        seen.add(option)


def _check_numbers(settings: Any, prefix: str = "") -> None:
    for each in fields(settings):
        value, name = getattr(settings, each.name), f"{prefix}{each.name.replace('_', '-')}"
        if is_dataclass(value):
            _check_numbers(value, f"{name}.")
        highest = _LARGEST_SEED if each.name == "seed" else _LARGEST
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and abs(number) > highest:
                raise InputError(f"--{name} is {number}; expected at most {highest}")


def _one_line(box: str, prog: str) -> str:
    """The message of a tyro error box without frame and help texts, with only the nearest suggestion."""
    _title, *parts = _parts(box)
    sentences = (" ".join(_sentences(part)) for part in parts)
    return f"{'; '.join(filter(None, sentences)).rstrip('.')}; see {prog} --help"


def _parts(box: str) -> list[list[str]]:
    """The lines between one rule and the next; a title may precede the first one."""
    parts: list[list[str]] = [[]]
    for line in box.splitlines():
        if _RULE.search(line):
            parts.append([])
        elif (framed := _FRAMED.match(line)) and framed["inner"]:
            parts[-1].append(framed["inner"])
    return parts


def _sentences(lines: list[str]) -> Iterator[str]:
    """The words of one part that belong in the error line."""
    title = lines[0] if lines else ""
    items = [line.strip() for line in lines if line.startswith(_ITEM) and not line.startswith(2 * _ITEM)]
    if title.startswith(("Arguments similar to", "Perhaps you meant")) and items:
        yield f"did you mean {items[0].split()[0]}?"
    elif title.startswith("Argument helptext") and items:
        yield f"expected {items[0]}"
    elif title.startswith("Missing from"):
        yield f"missing {', '.join(item for item in items if item.startswith('-') or item[:3].isupper())}"
    elif title.startswith("Error parsing"):
        parts = " ".join(lines).removeprefix("Error parsing ").partition(" Got errors:")[0]
        option, _, reason = parts.partition(": ")
        given = _GIVEN.search(reason)
        # Errors from our own checks are complete; they are reported for a section, for example vae.
        ours = parts if option.startswith("-") else reason
        yield f"{option} is {given['value'].replace(_BETWEEN, ' ')!r}" if given else ours
    elif not title.startswith("For full helptext"):
        yield _PLACE.sub("", " ".join(line.strip() for line in lines).partition(" Arguments are applied")[0])
