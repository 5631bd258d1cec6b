"""Batches of items."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batched(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Consecutive slices of at most ``size`` items that together cover all items."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def read_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most ``size`` items, in order; items are read when needed."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
