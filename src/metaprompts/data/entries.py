"""Entries of COCO files, read one by one: what is wrong with one is told with its file and its place there."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from metaprompts.errors import InputError

_Entry = TypeVar("_Entry")

# No picture is as wide, and squares of larger numbers leave float32.
_LARGEST_PX = 10**6


def parse_each(
    entries: Sequence[Any], parse: Callable[[dict[str, Any]], _Entry], path: Path, what: str, wanted: str
) -> list[_Entry]:
    """Parse the entries of a file's list.

    Args:
        entries: all of the list, in its order
        parse: from an entry to what is made of it; what it raises becomes the error
        path: the file, for the error
        what: the entries are, for the error ("annotations", "boxes", ...)
        wanted: of an entry, for the error ("id and file_name")

    Raises:
        InputError: an entry is no object, lacks something, or holds something of the wrong kind; file and place are
            named
    """
    parsed = []
    for place, entry in enumerate(entries):
        where = f"{path}: entry {place} of the {what}"
        if not isinstance(entry, dict):
            raise InputError(f"{where} is wrong: it is a JSON {type(entry).__name__}; wanted {wanted}")
        try:
            parsed.append(parse(entry))
        except KeyError as error:
            raise InputError(f"{where} has no {error}; wanted {wanted}") from error
        except (TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise InputError(f"{where} is wrong: {error}; wanted {wanted}") from error
    return parsed


def box_of(entry: dict[str, Any]) -> NDArray[np.float32]:
    """(4,) an entry's bbox: left, top, width, height in pixels.

    Raises:
        KeyError: it has none
        ValueError: it is not four finite numbers, or they are larger than any picture
    """
    box = numbers_of(entry, "bbox", 4)
    if (np.abs(box) > _LARGEST_PX).any():
        raise ValueError(f"bbox {entry['bbox']} is larger than any picture")
    return box


def whole_of(entry: dict[str, Any], key: str) -> int:
    """A whole number of an entry; not one in quotes, which COCO's own evaluation does not find.

    Raises:
        KeyError: it has none
        ValueError: it is something else
    """
    value = entry[key]
    if isinstance(value, str) or int(value) != value:
        raise ValueError(f"{key} is {value!r}, no whole number")
    return int(value)


def has_size(box_xywh: NDArray[np.float32]) -> bool:
    """Whether a box (4,) is wider and higher than nothing."""
    return bool((box_xywh[2:] > 0).all())


def is_passed_over(entry: dict[str, Any]) -> bool:
    """Whether COCO scores nobody for an annotation: a crowd, or a person without labeled joints."""
    return bool(entry.get("iscrowd", 0)) or entry.get("num_keypoints", 1) == 0


def score_of(entry: dict[str, Any]) -> float:
    """An entry's score.

    Raises:
        KeyError: it has none
        ValueError: it is not finite
    """
    return _finite(entry["score"], "score")


def area_of(entry: dict[str, Any], box_xywh: NDArray[np.float32]) -> float:
    """An entry's area in square pixels; where it has none, its box's.

    Raises:
        ValueError: it is not finite
    """
    return _finite(entry.get("area", box_xywh[2] * box_xywh[3]), "area")


def numbers_of(entry: dict[str, Any], key: str, count: int) -> NDArray[np.float32]:
    """(count,) a list of an entry.

    Raises:
        KeyError: it has none
        ValueError: there are not so many, or they are not finite
    """
    # Too large a number becomes infinity here, which is refused.
    with np.errstate(over="ignore"):
        numbers = np.asarray(entry[key], dtype=np.float32)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise ValueError(f"{key} has shape {numbers.shape} or is not finite; expected {count} numbers")
    return numbers


def _finite(value: Any, name: str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} is {number}")
    return number
