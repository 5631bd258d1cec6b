"""Leave most values of a parametrized test to `make test-slow`."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow_except(values: Iterable[Any], *quick: Any) -> list[Any]:
    """The values, marked slow except for the quick ones; several arguments of a test are a tuple."""
    parameters = []
    for value in values:
        arguments = value if isinstance(value, tuple) else (value,)
        parameters.append(pytest.param(*arguments, marks=() if value in quick else pytest.mark.slow))
    return parameters
