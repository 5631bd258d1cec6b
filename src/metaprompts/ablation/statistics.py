"""Means over a few seeds, with Student's t."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean of a few numbers with its uncertainty.

    Attributes:
        count: n
        mean: mean of the values; NaN if there are none
        half_width: half width of the 95 % interval around the mean; NaN for fewer than two values
        p_value: two-sided, for the null hypothesis that the mean is 0; NaN for fewer than two values
    """

    count: int
    mean: float
    half_width: float
    p_value: float


def estimate(values: Sequence[float]) -> Estimate:
    """Compute Student's confidence interval and test for a mean.

    Args:
        values: values of a few seeds; for a paired test, the differences seed by seed
    """
    count = len(values)
    mean = math.fsum(values) / count if count else math.nan
    if count < 2:
        return Estimate(count=count, mean=mean, half_width=math.nan, p_value=math.nan)
    error = statistics.stdev(values) / math.sqrt(count)
    # The same functions as in scipy.stats, whose import takes a second.
    from scipy.special import stdtr, stdtrit

    # Without variance, any nonzero mean is significant.
    statistic = abs(mean) / error if error else math.inf if mean else 0.0
    return Estimate(
        count=count,
        mean=mean,
        half_width=error * float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)),
        p_value=float(2 * stdtr(count - 1, -statistic)),
    )
