"""Numbers and names in messages, and tables in Markdown."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from metaprompts.errors import InputError

_UNITS = {"rmse": "m", "sq_rel": "m"}


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun: "1 image", "3 images", "2 boxes", "2 people".

    Args:
        count: the number
        noun: the singular
        plural: the plural; by default ``noun`` with an s, or "people" for "person"
    """
    return f"{count} {agreeing(count, noun, plural)}"


def agreeing(count: int, noun: str, plural: str | None = None) -> str:
    """The noun, or its plural if ``count`` is not 1; see `counted`."""
    return noun if count == 1 else plural or ("people" if noun == "person" else f"{noun}s")


def listed(names: Sequence[str], at_most: int) -> str:
    """The first names, and the number of further names: "a, b and 3 more"."""
    more = len(names) - at_most
    return ", ".join(names[:at_most]) + (f" and {more} more" if more > 0 else "")


def enumerated(names: Sequence[str]) -> str:
    """All names in a sentence: "a", "a and b", "a, b and c"."""
    *earlier, last = names
    return f"{', '.join(earlier)} and {last}" if earlier else last


def with_unit(name: str) -> str:
    """The name of a score, with its unit unless the name already implies it: "rmse (m)"."""
    return f"{name} ({_UNITS[name]})" if name in _UNITS else name


def shown_score(name: str, value: float) -> str:
    """Format a score: counts as integers, others with four digits.

    Args:
        name: name of the score; scores whose names begin with "images" are counts
        value: the value, which may be a count although it is a float
    """
    is_count = isinstance(value, int) or name.startswith("images")
    return f"{value:.0f}" if is_count else f"{value:.4f}"


def shown_scores(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The scores to show, by name with unit; without the number of skipped images if there are none."""
    return {
        name.replace("_", " ") if name.startswith("images") else with_unit(name): value
        for name, value in scores.items()
        if name != "images_skipped" or value
    }


def is_one_line(name: str) -> bool:
    """Whether a name has no line breaks or control characters, so that a message with it stays on one line."""
    return not any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in name)


def check_names_are_lines(key: str, names: Sequence[str]) -> None:
    """Check that names of classes or joints fit on one line of a message or table.

    Args:
        key: recipe key, for the error
        names: value of the key

    Raises:
        InputError: a name is empty, or has line breaks or control characters
    """
    for place, name in enumerate(names, 1):
        if not name.strip():
            raise InputError(f"{key} has an empty name, number {place} of {len(names)}: name it, or remove a comma")
        if not is_one_line(name):
            raise InputError(f"{key} has {name!r}: expected names without line breaks or control characters")


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False) -> str:
    """A table with one line per row and a line break at its end.

    Args:
        titles: titles of the columns
        rows: the cells of each row
        numbers: whether all columns but the first are aligned to the right
    """
    rule = ["---", *["---:" if numbers else "---"] * (len(titles) - 1)]
    # A vertical bar inside a cell would end the cell.
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in (titles, rule, *escaped))
