"""Batches of samples that may differ in size."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]


class Groups(Protocol):
    """Lists of samples, as from a DataLoader without collation."""

    def __len__(self) -> int:
        """Return the number of lists."""
        ...

    def __iter__(self) -> Iterator[Sequence[Tensors]]:
        """Yield the lists."""
        ...


class ShapeBatches(Iterable[dict[str, Tensor]]):
    """The samples of each list as one batch per tensor shape.

    Args:
        groups: lists of samples
    """

    def __init__(self, groups: Groups) -> None:
        self._groups = groups

    def __len__(self) -> int:
        """Return the number of lists, a lower bound of the number of batches."""
        return len(self._groups)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Yield the batches."""
        for samples in self._groups:
            for places in places_by_shape(samples):
                yield stack([samples[place] for place in places])


def places_by_shape(samples: Sequence[Tensors]) -> list[list[int]]:
    """The indices of samples grouped by tensor shapes; order is kept."""
    found: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for place, tensors in enumerate(samples):
        shapes = tuple(tuple(tensor.shape) for _, tensor in sorted(tensors.items()))
        found.setdefault(shapes, []).append(place)
    return list(found.values())


def stack(samples: Sequence[Tensors]) -> dict[str, Tensor]:
    """Stack tensors (...) of samples to (B, ...)."""
    return {name: torch.stack([tensors[name] for tensors in samples]) for name in samples[0]}
