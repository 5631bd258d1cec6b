"""Entries of COCO files, read one by one: an error names the file, the position and the id of the entry.

The functions that read a field raise KeyError if the entry lacks it, and ValueError if its value is wrong; `parse_each`
turns both into InputErrors.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from metaprompts.errors import InputError

_Entry = TypeVar("_Entry")

# No image is this wide, and squares of larger numbers overflow float32.
_LARGEST_PX = 10**6
# The largest finite number in single precision.
_LARGEST_NUMBER = float(np.finfo(np.float32).max)
# Scores are exchanged between processes in float64, which cannot represent all larger whole numbers.
_LARGEST_ID = 2**53


def parse_each(
    entries: Sequence[Any], parse: Callable[[dict[str, Any]], _Entry], where: Path | str, what: str, expected: str
) -> list[_Entry]:
    """Parse the entries of a file's list.

    Args:
        entries: all entries of the list in order
        parse: parses one entry; an exception that it raises becomes the error
        where: the file, for the error
        what: name of the entries, for the error ("annotations", "boxes", ...)
        expected: expected content of an entry, for the error ("id and file_name")

    Raises:
        InputError: an entry is not an object, lacks a key, or has a value of the wrong type; the message names file,
            position and id
    """
    parsed = []
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            kind = type(entry).__name__
            raise InputError(f"{where}: entry {place} of the {what} is wrong: it is a JSON {kind}; expected {expected}")
        try:
            parsed.append(parse(entry))
        except KeyError as error:
            raise InputError(f"{_named(where, place, what, entry)} has no {error}; expected {expected}") from error
        except ValueError as error:
            raise InputError(f"{_named(where, place, what, entry)} is wrong: {error}; expected {expected}") from error
    return parsed


def _named(where: Path | str, place: int, what: str, entry: dict[str, Any]) -> str:
    known = entry.get("id")
    with_id = f" (id {shown(known)})" if isinstance(known, int | str) else ""
    return f"{where}: entry {place} of the {what}{with_id}"


def shown(value: Any) -> str:
    """A short form of a value for error messages."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def check_unique(values: Iterable[Hashable], where: Path | str, what: str, key: str, cure: str) -> None:
    """Check that the identifying key has a different value in every entry.

    Args:
        values: values of all entries
        where: the file, for the error
        what: name of the entries, for the error ("images", ...)
        key: the identifying key, for the error ("id", ...)
        cure: advice for the error

    Raises:
        InputError: values are repeated
    """
    for value, times in Counter(values).most_common(1):
        if times > 1:
            raise InputError(
                f"{where}: {times} {what} have the {key} {value}; expected a different one for each: {cure}"
            )


def box_of(entry: dict[str, Any]) -> NDArray[np.float64]:
    """(4,) an entry's bbox: left, top, width, height in pixels, at most 10^6."""
    box = numbers_of(entry, "bbox", 4)
    if (np.abs(box) > _LARGEST_PX).any():
        raise ValueError(f"bbox {entry['bbox']} is larger than any image")
    return box


def whole_of(entry: dict[str, Any], key: str) -> int:
    """An integer field of an entry. Quoted numbers are errors, because COCO's own evaluation does not match them."""
    value = entry[key]
    is_whole = type(value) is int or (isinstance(value, float) and value.is_integer())
    if not is_whole:
        raise ValueError(f"{key} is {shown(value)}, not a whole number")
    if abs(value) > _LARGEST_ID:
        raise ValueError(f"{key} is {shown(value)}, beyond 2^53")
    return int(value)


def whole_or_none(entry: dict[str, Any], key: str) -> int | None:
    """An integer field of an entry; None if missing."""
    return None if entry.get(key) is None else whole_of(entry, key)


def text_of(entry: dict[str, Any], key: str) -> str:
    """A text field of an entry."""
    value = entry[key]
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError(f"{key} is {shown(value)}, not text")
    return value


def list_of(entry: dict[str, Any], key: str) -> list[Any]:
    """A list field of an entry; empty if missing."""
    value = entry.get(key)
    if value is not None and not isinstance(value, list):
        raise ValueError(f"{key} is {shown(value)}, not a list")
    return value or []


def has_size(box_xywh: NDArray[np.floating]) -> bool:
    """Whether a box (4,) is at least one pixel wide and high."""
    return bool((box_xywh[2:] >= 1).all())


def is_crowd(entry: dict[str, Any]) -> bool:
    """Whether an annotation marks a crowd, which COCO ignores in scoring."""
    value = entry.get("iscrowd")
    if value not in (None, 0, 1):
        raise ValueError(f"iscrowd is {shown(value)}, neither 0 nor 1")
    return bool(value)


def score_of(entry: dict[str, Any]) -> float:
    """An entry's score, 0 to 1."""
    score = _finite(entry["score"], "score")
    if not 0 <= score <= 1:
        raise ValueError(f"score is {score:g}, not within 0 to 1")
    return score


def area_of(entry: dict[str, Any]) -> float | None:
    """An entry's area in square pixels; None if the entry has no area above 0."""
    area = None if entry.get("area") is None else _finite(entry["area"], "area")
    return area if area is not None and area > 0 else None


def numbers_of(entry: dict[str, Any], key: str, count: int) -> NDArray[np.float64]:
    """(count,) a field of an entry that lists numbers, finite in single precision."""
    value = entry[key]
    if not isinstance(value, list) or len(value) != count:
        came = f"{len(value)} values" if isinstance(value, list) else shown(value)
        raise ValueError(f"{key} is {came}; expected {count} numbers")
    try:
        numbers = np.asarray(value)
    except ValueError:  # lists of different lengths
        numbers = np.empty(0, dtype=object)
    if numbers.shape != (count,) or numbers.dtype.kind not in "iuf":
        raise ValueError(f"{key} is {shown(value)}; expected {count} numbers")
    # NaN fails this comparison as well.
    if not (np.abs(numbers) <= _LARGEST_NUMBER).all():
        raise ValueError(f"{key} is {shown(value)}, which is not finite in single precision")
    return numbers.astype(np.float64)


def _finite(value: Any, name: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{name} is {shown(value)}, not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    # NaN fails this comparison as well.
    if not abs(number) <= _LARGEST_NUMBER:
        raise ValueError(f"{name} is {number}, which is not finite in single precision")
    return number
