"""Batches of items, and bands of rows."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
_BAND_PIXELS = 2**20


def batched(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Consecutive slices of at most ``size`` items that together cover all items."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def read_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most ``size`` items, in order; items are read when needed."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def row_bands(height: int, width: int) -> Iterator[slice]:
    """The rows of an image in bands of about a million pixels, from top to bottom.

    Processed band by band, an image needs memory for temporary copies of only one band.

    Args:
        height: height of the image
        width: width of the image
    """
    rows = max(1, _BAND_PIXELS // max(width, 1))
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))
