"""Moments of many variables from running sums."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from metaprompts.utils.lazy import lazy_module

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")


# Resizing a constant map leaves differences of up to this fraction of the value.
_ROUNDING = 1e-12
_ORIGINS = ("origin", "companion_origin")
_SUMS = ("count", "sum", "squares", "companion_sum", "companion_squares", "products")


class RunningMoments:
    """Mean and standard deviation of N variables, and their correlation with a companion variable, in float64.

    Sums are over differences from the mean of the first values, because squares of numbers that are large compared to
    their spread would cancel.

    Args:
        variables: number of variables, N
    """

    def __init__(self, variables: int) -> None:
        zeros = torch.zeros(variables, dtype=torch.float64)
        self._begun = torch.zeros(variables, dtype=torch.bool)
        self.count = zeros.clone()
        self._origin, self._sum, self._squares = zeros.clone(), zeros.clone(), zeros.clone()
        self._companion_origin, self._companion_sum = zeros.clone(), zeros.clone()
        self._companion_squares, self._products = zeros.clone(), zeros.clone()

    def update(self, values: Tensor, companion: Tensor | None = None, *, part: slice = slice(None)) -> None:
        """Count observations of some of the variables.

        Args:
            values: (n,P) float64, P observations of the n variables of ``part``
            companion: (P,) float64, one more variable, observed together with them
            part: indices of these variables among the N
        """
        if not values.shape[1]:
            return
        is_first = ~self._begun[part]
        self._begun[part] = True
        self._origin[part] = torch.where(is_first, values.mean(dim=1), self._origin[part])
        centered = values - self._origin[part, None]
        self.count[part] += values.shape[1]
        self._sum[part] += centered.sum(dim=1)
        self._squares[part] += centered.square().sum(dim=1)
        if companion is not None:
            self._companion_origin[part] = torch.where(is_first, companion.mean(), self._companion_origin[part])
            other = companion - self._companion_origin[part, None]
            self._companion_sum[part] += other.sum(dim=1)
            self._companion_squares[part] += other.square().sum(dim=1)
            self._products[part] += (centered * other).sum(dim=1)

    def state(self) -> dict[str, Tensor]:
        """The sums so far, with their origins."""
        values = {name: getattr(self, name if name == "count" else f"_{name}") for name in (*_ORIGINS, *_SUMS)}
        return {"begun": self._begun, **values}

    def begin_at(self, state: Mapping[str, Tensor]) -> None:
        """Use the origins of other moments, so that the sums of both can be added."""
        self._begun = state["begun"].clone()
        self._origin, self._companion_origin = state["origin"].clone(), state["companion_origin"].clone()

    def add(self, state: Mapping[str, Tensor]) -> None:
        """Add the sums of other moments; variables that both have counted must have the same origins."""
        new = state["begun"] & ~self._begun
        self._origin = torch.where(new, state["origin"], self._origin)
        self._companion_origin = torch.where(new, state["companion_origin"], self._companion_origin)
        self._begun = self._begun | state["begun"]
        for name, total in self.state().items():
            if name in _SUMS:
                total += state[name]

    @property
    def has_begun(self) -> bool:
        """Whether all variables have an origin."""
        return bool(self._begun.all())

    def mean(self) -> Tensor:
        """(N,) means; NaN without observations."""
        return self._origin + self._sum / self.count

    def std(self) -> Tensor:
        """(N,), the population standard deviation of all observations; NaN without any."""
        return (self._spread() / self.count).sqrt()

    def correlation(self) -> Tensor:
        """(N,), Pearson correlation; NaN where a variable or its companion is constant."""
        together = self._products - self._sum * self._companion_sum / self.count
        own = self._spread()
        other = _around_mean(self._companion_squares, self._companion_sum, self._companion_origin, self.count)
        return torch.where((own > 0) & (other > 0), (together / (own * other).sqrt()).clamp(-1, 1), torch.nan)

    def _spread(self) -> Tensor:
        return _around_mean(self._squares, self._sum, self._origin, self.count)


def _around_mean(squares: Tensor, plain: Tensor, origin: Tensor, count: Tensor) -> Tensor:
    """The sum of squared differences from the mean; 0 where it is only rounding error."""
    spread = squares - plain.square() / count
    rounding = count * (_ROUNDING * (origin + plain / count)).square()
    return torch.where(spread > rounding, spread, torch.zeros_like(spread))
