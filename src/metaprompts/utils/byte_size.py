"""Parse and format sizes in bytes."""

import re

from metaprompts.errors import InputError

_UNITS: dict[str, int] = {"": 1, **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)}}
_UNITS |= {f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)} | {"B": 1}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
# The largest offset of a file, and more than any memory.
_MAX = 2**63 - 1


def parse_bytes(text: str, option: str) -> int:
    """Read a size in bytes.

    Args:
        text: a number of bytes, or a number with a unit: "8GB", "6.5 GiB", "900MB"
        option: the option's name, for the error

    Raises:
        InputError: the text is not a size, 0, or more than 8 EiB
    """
    found = _SIZE.fullmatch(text)
    units = {unit.lower(): size for unit, size in _UNITS.items()}
    if found is None or found[2].lower() not in units or float(found[1]) == 0:
        raise InputError(f"{option} is {text!r}; expected bytes, or a number with a unit, such as 8GB or 6.5GiB")
    size = float(found[1]) * units[found[2].lower()]
    if size > _MAX:
        raise InputError(f"{option} is {text!r}; expected at most 8 EiB")
    return round(size)


def shown_bytes(size: int) -> str:
    """Format a number of bytes in a suitable unit: "812 B", "3.4 KiB", "12.0 MiB"."""
    if size < 1024:
        return f"{size} B"
    value, units = size / 1024, ["KiB", "MiB", "GiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        del units[0]
    return f"{value:.1f} {units[0]}"
