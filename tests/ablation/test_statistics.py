"""Student's t, against scipy and by hand."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from metaprompts.ablation.report import estimate

VALUES = st.lists(st.floats(-100, 100).map(lambda value: round(value, 3)), min_size=2, max_size=9)


@pytest.mark.parametrize(("count", "quantile"), [(2, 12.706), (3, 4.303), (4, 3.182), (10, 2.262)])
def test_quantiles_are_those_of_printed_tables(count, quantile):
    values = list(range(count))
    error = statistics.stdev(values) / math.sqrt(count)
    assert estimate(values).half_width / error == pytest.approx(quantile, abs=5e-4)


@given(VALUES)
def test_interval_and_test_are_scipys(values):
    found = estimate(values)
    error = stats.sem(values)
    if error < 1e-9:
        assert found.half_width == pytest.approx(0, abs=1e-6)
        return
    low, high = stats.t.interval(0.95, len(values) - 1, loc=found.mean, scale=error)
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high), abs=1e-6)
    assert found.p_value == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=1e-9)


def test_by_hand():
    # Mean 2, spread 1, error 1 / sqrt(3); with 2 degrees of freedom P(|T| < t) = t / sqrt(t^2 + 2).
    found = estimate([1.0, 2.0, 3.0])
    assert (found.count, found.mean) == (3, 2.0)
    assert found.p_value == pytest.approx(1 - math.sqrt(12 / 14))
    assert found.half_width == pytest.approx(4.30265 / math.sqrt(3), abs=1e-5)


@pytest.mark.parametrize("values", [[], [0.5]])
def test_too_few_have_no_interval(values):
    found = estimate(values)
    assert found.count == len(values)
    assert all(map(math.isnan, (found.half_width, found.p_value)))
    assert math.isnan(found.mean) == (not values)


def test_without_spread_any_mean_but_0_is_beyond_chance():
    assert estimate([0.0, 0.0]).p_value == 1
    assert estimate([0.5, 0.5, 0.5]).p_value == 0
