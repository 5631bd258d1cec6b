"""Random numbers that are the same on every machine."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


class Rng:
    """A seeded random generator whose arithmetic rounds the same on every machine.

    Args:
        seed: 0 or more
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.Generator(np.random.PCG64(seed))

    def uniform(self, low: float, high: float) -> float:
        """A random number from ``low`` to ``high``."""
        # Generator.uniform may be compiled to a fused multiply-add, which rounds one time less.
        return low + (high - low) * float(self._bits.random())

    def whole(self, low: int, high: int) -> int:
        """A random integer from ``low`` to ``high``, inclusive."""
        return low + int(self._bits.random() * (high - low + 1))

    def happens(self, probability: float) -> bool:
        """True with this probability."""
        return float(self._bits.random()) < probability

    def choice(self, items: Sequence[Item]) -> Item:
        """A random item."""
        return items[int(self._bits.random() * len(items))]

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """The items in random order."""
        remaining = list(items)
        return [remaining.pop(int(self._bits.random() * len(remaining))) for _ in range(len(items))]
