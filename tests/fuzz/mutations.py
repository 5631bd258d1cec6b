"""Small changes of valid files: of their bytes, and of the values in JSON."""

import json
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

_NUMBER = st.integers(0, 2**24 - 1)
Edits = list[tuple[str, int, int]]

_BYTE_EDITS = ("flip", "set", "cut", "drop", "double", "insert", "magic", "fill")
_MAGICS = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0",
    b"PK\x03\x04",
    b"\x93NUMPY\x01\x00",
    b"II*\x00",
    b"Pf\n",
    b"GIF89a",
    b"RIFF",
    b"\x1f\x8b\x08",
    b"{",
    b"[" * 9999,
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\0" * 512,
    b"",
)
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**9, 10**18, -(10**18), 10**400, 1e308, -1e308, 0.5, 1e-300,
    "", "1", "nan", "../x", "a" * 3000, "\u0000", "\ud800", "\u202e", [], {}, [[]], [None], {"a": {}}, [1] * 50, ["x"],
)  # fmt: skip


def byte_edits() -> st.SearchStrategy[Edits]:
    """A few changes of bytes: kind, place and value."""
    return st.lists(st.tuples(st.sampled_from(_BYTE_EDITS), _NUMBER, _NUMBER), min_size=1, max_size=4)


def json_edits() -> st.SearchStrategy[Edits]:
    """A few changes of values: kind, place and value."""
    kinds = st.sampled_from(("replace", "remove", "rename", "nest", "repeat"))
    return st.lists(st.tuples(kinds, _NUMBER, _NUMBER), min_size=1, max_size=3)


def change_bytes(content: bytes, edits: Edits) -> bytes:
    """Change bytes."""
    changed = bytearray(content)
    for kind, where, value in edits:
        place = where % (len(changed) + 1)
        end = min(place + 1 + value % 64, len(changed))
        if kind == "flip" and place < len(changed):
            changed[place] ^= 1 << value % 8
        elif kind == "set" and place < len(changed):
            changed[place:end] = bytes([value % 256]) * (end - place)
        elif kind == "cut":
            del changed[place:]
        elif kind == "drop":
            del changed[place:end]
        elif kind == "double":
            changed[place:place] = changed[place:end]
        elif kind == "insert":
            changed[place:place] = value.to_bytes(3, "little")
        elif kind == "magic":
            changed[: value % 9] = _MAGICS[where % len(_MAGICS)]
        elif kind == "fill":
            # Sizes of 32 bits in headers.
            changed[place : place + 4] = (value << 8 | 0xFF).to_bytes(4, "little" if where % 2 else "big")
    return bytes(changed)


def change_json(content: bytes, edits: Edits) -> bytes:
    """Change values of a JSON file."""
    root = [json.loads(content)]
    nesting = 0
    for kind, where, value in edits:
        places = _places(root)
        holder, key = places[where % len(places)]
        if kind == "replace":
            # A copy: the same list put into itself has no end.
            holder[key] = deepcopy(_VALUES[value % len(_VALUES)])
        elif kind == "remove" and holder is not root:
            del holder[key]
        elif kind == "rename" and isinstance(holder, dict):
            holder[f"{key}x"] = holder.pop(key)
        elif kind == "nest":
            nesting = (30, 100, 5_000, 100_000)[value % 4]
            holder[key] = "NESTED"
        elif kind == "repeat" and isinstance(holder, list) and holder is not root:
            holder.extend(deepcopy(holder[key]) for _ in range(value % 300))
    text = json.dumps(root[0])
    return text.replace('"NESTED"', "[" * nesting + "]" * nesting).encode("utf-8", "surrogatepass")


def _places(root: list[Any]) -> list[tuple[Any, Any]]:
    """Where values are: what holds them, and their key or index."""
    found: list[tuple[Any, Any]] = []
    holders: list[Any] = [root]
    for holder in holders:
        for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
            found.append((holder, key))
            if isinstance(value, dict | list):
                holders.append(value)
    return found
