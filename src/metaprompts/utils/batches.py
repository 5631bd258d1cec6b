"""Batches of a sequence."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def batched(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Slices of at most ``size`` items, in order; together they are all items."""
    return [items[start : start + size] for start in range(0, len(items), size)]
