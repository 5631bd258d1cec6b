"""The exponential moving average (EMA) of a run's weights, which often scores better than the weights themselves."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """EMA of a model's trained weights; batch norm statistics are averages already.

    Args:
        model: the model whose weights initialize the average
        decay: fraction of the previous average kept at each step, 0 to below 1; the first steps use `decay_at`
        begins: number of steps after which averaging starts from the current weights
    """

    def __init__(self, model: nn.Module, decay: float, begins: int = 0) -> None:
        self._own = {name: each for name, each in model.named_parameters() if each.requires_grad}
        self._average = {name: each.detach().clone() for name, each in self._own.items()}
        self._decay, self._begins = decay, begins

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the averages with the weights after ``step`` steps."""
        averages, own = list(self._average.values()), list[Tensor](self._own.values())
        torch._foreach_lerp_(averages, own, 1 - decay_at(step - self._begins, self._decay))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While the body runs, the model has the averages; afterwards it has its own weights again, bit-identical."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def state(self) -> dict[str, Tensor]:
        """The averages by parameter name, as taken by `load`."""
        return self._average

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Load a state that `state` returned."""
        for name, average in self._average.items():
            average.copy_(state[name])

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the model's weights and the averages."""
        for name, average in self._average.items():
            kept = self._own[name].detach().clone()
            self._own[name].copy_(average)
            average.copy_(kept)


def decay_at(step: int, decay: float) -> float:
    """The decay after ``step`` steps: it rises from 0 to ``decay``, so the average forgets the initial weights.

    With 0.999 from the start, they would still have a weight of 0.37 after a thousand steps.
    """
    return min(decay, (1 + step) / (10 + step)) if step else 0.0
