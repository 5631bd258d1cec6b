"""Student's t, for means of few seeds: exact, for whole degrees of freedom, so that no other library is needed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
_HALVINGS = 200


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean of a few numbers and how far it can be trusted.

    Attributes:
        count: n
        mean: NaN for none
        spread: standard deviation (n - 1); NaN for fewer than two
        half_width: of the 95 % interval around the mean; NaN for fewer than two
        p_value: two-sided, of the mean being 0; NaN for fewer than two
    """

    count: int
    mean: float
    spread: float
    half_width: float
    p_value: float


def estimate(values: Sequence[float]) -> Estimate:
    """Student's interval and test of a mean.

    Args:
        values: of a few seeds; for a paired test, the differences seed by seed
    """
    count = len(values)
    mean = math.fsum(values) / count if count else math.nan
    if count < 2:
        return Estimate(count=count, mean=mean, spread=math.nan, half_width=math.nan, p_value=math.nan)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    error = spread / math.sqrt(count)
    return Estimate(
        count=count,
        mean=mean,
        spread=spread,
        half_width=error * t_quantile(CONFIDENCE, count - 1),
        p_value=_p_value(mean, error, count - 1),
    )


def t_within(t: float, freedom: int) -> float:
    """Probability that Student's t lies within -t..t (Abramowitz and Stegun 26.7.3 and 26.7.4).

    Args:
        t: 0 or more
        freedom: degrees of freedom, 1 or more
    """
    angle = math.atan2(t, math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = freedom % 2 == 1
    term = cosine if is_odd else 1.0
    total = 0.0
    for factor in range(2 if is_odd else 1, freedom, 2):
        total += term
        term *= cosine * cosine * factor / (factor + 1)
    return 2 / math.pi * (angle + sine * total) if is_odd else sine * total


def t_quantile(share: float, freedom: int) -> float:
    """The t that Student's t is within -t..t of with a probability, found by halving.

    Args:
        share: the probability, from 0 to below 1
        freedom: degrees of freedom, 1 or more
    """
    low, high = 0.0, 1.0
    while t_within(high, freedom) < share:
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if t_within(middle, freedom) < share else (low, middle)
    return high


def _p_value(mean: float, error: float, freedom: int) -> float:
    if error == 0:
        # No variance: any nonzero mean is significant.
        return 1.0 if mean == 0 else 0.0
    return max(0.0, 1 - t_within(abs(mean) / error, freedom))
