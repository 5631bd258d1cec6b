"""Tables that map the values or colors of a mask to classes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.sample import IGNORED_LABEL
from metaprompts.errors import InputError

STORED_VALUES = 65536
UNKNOWN = -1
"""Table entry of a value that is neither a class nor ignored."""

_HEX = re.compile(r"#([0-9a-fA-F]{6})")
_RGB = re.compile(r"[(\[]?\s*(\d{1,3})\s*[, ]\s*(\d{1,3})\s*[, ]\s*(\d{1,3})\s*[)\]]?")
_EVERY_OTHER = "*"
_IGNORED_NAMES = ("ignored", "ignore")
_EXAMPLE = "such as --data.label_map 0=background,255=car or, for colors, --data.label_map 0,0,0=ignored,255,0,0=car"


@dataclass(frozen=True, eq=False)
class ColorTable:
    """The class of every color.

    Attributes:
        colors: (n,) int32, red x 65536 + green x 256 + blue, ascending
        classes: (n,) int16, the class of each color, 255 = ignored
        others: the class of all other colors, 255 = ignored, -1 = no class
    """

    colors: NDArray[np.int32]
    classes: NDArray[np.int16]
    others: int


class LabelValue(NamedTuple):
    """A value that occurs in a mask.

    Attributes:
        name: user-facing form of the value, see `value_name`
        label: class of the value, 255 = ignored, -1 = no class
        pixels: number of pixels with this value
    """

    name: str
    label: int
    pixels: int


LabelTable = NDArray[np.int16] | ColorTable
"""(65536,) class of every stored value, or the class of every color; 255 = ignored, -1 = no class."""


def classes_of(stored: NDArray[Any], table: LabelTable) -> NDArray[np.int16]:
    """Convert stored values, or packed colors, to classes.

    Args:
        stored: integers of any shape
        table: a table for values or for colors, matching ``stored``

    Returns:
        classes of the same shape, 255 = ignored, -1 = no class
    """
    if not isinstance(table, ColorTable):
        classes: NDArray[np.int16] = table[stored]
        return classes
    places = np.searchsorted(table.colors, stored).clip(max=len(table.colors) - 1)
    found: NDArray[np.int16] = np.where(table.colors[places] == stored, table.classes[places], np.int16(table.others))
    return found


def count_values(stored: NDArray[Any], table: LabelTable) -> list[LabelValue]:
    """Count the pixels of each stored value or color (H, W)."""
    if isinstance(table, ColorTable):
        values, counts = np.unique(stored, return_counts=True)
    else:
        counts = np.bincount(stored.ravel())
        values = np.flatnonzero(counts)
        counts = counts[values]
    found = zip(values.tolist(), classes_of(values, table).tolist(), counts.tolist(), strict=True)
    return [LabelValue(value_name(value, table), label, pixels) for value, label, pixels in found]


def value_name(value: int, table: LabelTable) -> str:
    """The user-facing form of a stored value: 255, or #ff0000."""
    return f"#{value:06x}" if isinstance(table, ColorTable) else str(value)


def describe_expected(table: LabelTable) -> str:
    """Describe the values that have a class."""
    if isinstance(table, ColorTable):
        colors = [value_name(int(color), table) for color in table.colors]
        return "colors of data.label_map (" + ", ".join(colors[:10]) + (", ...)" if len(colors) > 10 else ")")
    values = np.flatnonzero((table >= 0) & (table < IGNORED_LABEL))
    is_range = len(values) == values.max() - values.min() + 1
    return f"classes {values.min()} to {values.max()}" if is_range else "classes " + ", ".join(map(str, values[:10]))


def renumbered(table: LabelTable, order: Sequence[int]) -> LabelTable:
    """The table with its classes renumbered.

    Args:
        table: table of values or colors
        order: the new number of each class
    """
    if isinstance(table, ColorTable):
        (others,) = _renumber(np.array([table.others], np.int16), order).tolist()
        return ColorTable(table.colors, _renumber(table.classes, order), others)
    return _renumber(table, order)


def _renumber(classes: NDArray[np.int16], order: Sequence[int]) -> NDArray[np.int16]:
    changed, is_class = classes.copy(), (classes >= 0) & (classes < len(order))
    changed[is_class] = np.array(order, np.int16)[classes[is_class]]
    return changed


def id_table(classes: Mapping[int, int], ignored: Iterable[int]) -> NDArray[np.int16]:
    """Build the table for a data set that has its own label ids.

    Args:
        classes: stored value -> class
        ignored: stored values that become 255

    Returns:
        (65536,) int16: the class, 255 = ignored, -1 = no class
    """
    table = np.full(STORED_VALUES, UNKNOWN, dtype=np.int16)
    table[list(ignored)] = IGNORED_LABEL
    table[list(classes)] = list(classes.values())
    return table


def label_table(
    classes: int | Sequence[str],
    ignored: Iterable[int] = (),
    *,
    reduce_zero_label: bool = False,
    label_map: Mapping[str, Any] | None = None,
    ignore_index: int = IGNORED_LABEL,
) -> LabelTable:
    """Build the table from stored values, or colors, to classes.

    Without ``label_map`` a stored value is the index of its class. Values in ``label_map`` have the class given there;
    a class that is given there has no other values.

    Args:
        classes: names of the classes in order, or their number, 1 to 255
        ignored: stored values that are not classes
        reduce_zero_label: stored 0 is ignored and stored 1 to ``classes`` become 0 to classes - 1
        label_map: stored value ("255"), color ("#ff0000" or "255,0,0") or "*" (all others) -> index or name of
            a class, or "ignored"; values and colors cannot be mixed
        ignore_index: one more stored value that is not a class, unless ``label_map`` makes it one

    Raises:
        InputError: the number of classes or a value is out of range, a value is given twice, or a class has no value
    """
    names = tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(classes)
    if not 1 <= len(names) <= IGNORED_LABEL:
        raise InputError(f"got {len(names)} classes; expected 1 to {IGNORED_LABEL}")
    said = {key: _class_of(target, names, key) for key, target in (label_map or {}).items()}
    others = said.pop(_EVERY_OTHER, UNKNOWN)
    keys = [_key(key) for key in said]
    if any(isinstance(key, tuple) for key in keys):
        if list(ignored) or reduce_zero_label:
            raise InputError(
                "data.label_map maps colors, but data.ignored and data.reduce_zero_label map values: omit them, "
                "and write COLOR=ignored in data.label_map"
            )
        table: LabelTable = _color_table(list(said), keys, list(said.values()), others)
    else:
        table = _value_table(names, set(ignored), ignore_index, reduce_zero_label, others, _unique(said, keys))
    _check_every_class(names, table, set(ignored), reduce_zero_label=reduce_zero_label)
    return table


def _value_table(
    names: Sequence[str],
    ignored: set[int],
    ignore_index: int,
    reduce_zero_label: bool,
    others: int,
    said: Mapping[Any, int],
) -> NDArray[np.int16]:
    for value in (*ignored, *said):
        if not 0 <= value < STORED_VALUES:
            raise InputError(f"label value {value} is outside 0 to {STORED_VALUES - 1}")
    for value in ignored:
        if said.get(value, IGNORED_LABEL) != IGNORED_LABEL:
            raise InputError(f"data.ignored has {value}, but data.label_map gives it a class: remove one of the two")
    table = np.full(STORED_VALUES, others, dtype=np.int16)
    first = 1 if reduce_zero_label else 0
    table[first : first + len(names)] = np.arange(len(names))
    table[sorted(ignored | {ignore_index} | ({0} if reduce_zero_label else set()))] = IGNORED_LABEL
    mentioned = set(said.values()) - {IGNORED_LABEL}
    own = table[: first + len(names)]
    own[np.isin(own, list(mentioned))] = others
    table[list(said)] = list(said.values())
    return table


def _color_table(spelled: Sequence[str], keys: Sequence[Any], classes: Sequence[int], others: int) -> ColorTable:
    values = [key for key, color in zip(spelled, keys, strict=True) if not isinstance(color, tuple)]
    if values:
        raise InputError(f"data.label_map has both values ({values[0]}) and colors: give only one kind, {_EXAMPLE}")
    said = _unique(dict(zip(spelled, classes, strict=True)), keys)
    packed = {red << 16 | green << 8 | blue: found for (red, green, blue), found in said.items()}
    colors = np.array(sorted(packed), dtype=np.int32)
    return ColorTable(colors, np.array([packed[color] for color in colors.tolist()], dtype=np.int16), others)


def _unique(said: Mapping[str, int], keys: Sequence[Any]) -> dict[Any, int]:
    found: dict[Any, int] = {}
    for (spelled, target), key in zip(said.items(), keys, strict=True):
        if found.setdefault(key, target) != target:
            raise InputError(f"data.label_map maps {spelled} to two classes: map it to one")
    return found


def _key(spelled: str) -> int | tuple[int, int, int]:
    text = str(spelled).strip()
    if text.isdecimal() and text.isascii():
        return int(text)
    if match := _HEX.fullmatch(text):
        number = int(match[1], 16)
        return number >> 16, number >> 8 & 255, number & 255
    match = _RGB.fullmatch(text)
    color = tuple(map(int, match.groups())) if match else ()
    if len(color) != 3 or max(color) > 255:
        raise InputError(f"data.label_map has {spelled!r}; expected a mask's value or color, {_EXAMPLE}")
    return color


def _class_of(target: Any, names: Sequence[str], key: str) -> int:
    if isinstance(target, str) and target in names:
        return names.index(target)
    text = str(target).strip()
    if text.lower() in _IGNORED_NAMES or text == str(IGNORED_LABEL):
        return IGNORED_LABEL
    if isinstance(target, int | str) and text.isdecimal() and int(text) < len(names):
        return int(text)
    raise InputError(
        f"data.label_map has {key}={target}; expected one of task.classes ({', '.join(names)}), an index from 0 to "
        f"{len(names) - 1}, or ignored"
    )


def _check_every_class(names: Sequence[str], table: LabelTable, ignored: set[int], *, reduce_zero_label: bool) -> None:
    """Check that every class has a value; a class without a value would silently never be trained."""
    present = set(np.unique(table.classes if isinstance(table, ColorTable) else table).tolist())
    if isinstance(table, ColorTable):
        present.add(table.others)
    for index, name in enumerate(names):
        if index in present:
            continue
        value = index + reduce_zero_label
        if value in ignored:
            raise InputError(
                f"data.ignored has {value}, which is class {name!r} of task.classes: remove it from data.ignored, or "
                "map the mask values with data.label_map"
            )
        raise InputError(f"no mask value is mapped to class {name!r}: map one in data.label_map, {_EXAMPLE}")
