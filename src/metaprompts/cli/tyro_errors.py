"""The command line's words to a command's settings; what is wrong with them is told in one line."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from typing import Any, TypeVar

import tyro

from metaprompts.errors import InputError

T = TypeVar("T")

# Where the output's encoding lacks a frame's signs, tyro takes dashes and blanks.
_RULE = re.compile(r"(─|-){5,}")
_FRAMED = re.compile(r"(│ |  )?(?P<inner>.*?)[│ ]*$")
_GIVEN = re.compile(r"\[?(['\"])(?P<value>.*?)\1\]?\.?$")
_BETWEEN = "', '"
_PLACE = re.compile(r" \(applied to [^)]*\)")
_ITEM = "    "


def parse(kind: type[T], words: Sequence[str], prog: str, *, prefixes: bool = False) -> T:
    """Read words as `tyro.cli` does.

    Args:
        kind: what to make of them, a dataclass
        words: without the program's name
        prog: how the user called it
        prefixes: whether options of a part are named after it, such as --vae.steps

    Raises:
        InputError: tyro cannot read them
        SystemExit: help was asked for, and given
    """
    said = io.StringIO()
    settings: tuple[Any, ...] = () if prefixes else (tyro.conf.OmitArgPrefixes,)
    try:
        with redirect_stderr(said):
            return tyro.cli(kind, prog=prog, args=list(words), config=(*settings, tyro.conf.FlagCreatePairsOff))
    except SystemExit as end:
        if not end.code:
            raise
        raise InputError(_one_line(said.getvalue(), prog)) from None


def _one_line(box: str, prog: str) -> str:
    """What a box of tyro's says, without its frame, its help texts and all but the nearest of its proposals."""
    _title, *parts = _parts(box)
    sentences = (" ".join(_sentences(part)) for part in parts)
    return f"{'; '.join(filter(None, sentences)).rstrip('.')}; see {prog} --help"


def _parts(box: str) -> list[list[str]]:
    """The lines between one rule and the next; above the first one there is a title, if anything."""
    parts: list[list[str]] = [[]]
    for line in box.splitlines():
        if _RULE.search(line):
            parts.append([])
        elif (framed := _FRAMED.match(line)) and framed["inner"]:
            parts[-1].append(framed["inner"])
    return parts


def _sentences(lines: list[str]) -> Iterator[str]:
    """The words of one part that are worth a place in the line."""
    title = lines[0] if lines else ""
    items = [line.strip() for line in lines if line.startswith(_ITEM) and not line.startswith(2 * _ITEM)]
    if title.startswith(("Arguments similar to", "Perhaps you meant")) and items:
        yield f"did you mean {items[0].split()[0]}?"
    elif title.startswith("Argument helptext") and items:
        yield f"wanted {items[0]}"
    elif title.startswith("Missing from"):
        yield f"missing {', '.join(item for item in items if item.startswith('-') or item[:3].isupper())}"
    elif title.startswith("Error parsing"):
        parts = " ".join(lines).removeprefix("Error parsing ").partition(" Got errors:")[0]
        option, _, reason = parts.partition(": ")
        given = _GIVEN.search(reason)
        # Checks of our own say all by themselves; they are told of a part, such as vae.
        ours = parts if option.startswith("-") else reason
        yield f"{option} is {given['value'].replace(_BETWEEN, ' ')!r}" if given else ours
    elif not title.startswith("For full helptext"):
        yield _PLACE.sub("", " ".join(line.strip() for line in lines).partition(" Arguments are applied")[0])
