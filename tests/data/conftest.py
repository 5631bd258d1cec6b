"""Where the real data lies, and small helpers to write files."""

import numpy as np
import pytest


class Scripted:
    """A random generator whose draws are written down beforehand; drawing more or less than that is an error."""

    def __init__(self, *draws):
        self.draws = list(draws)

    def random(self):
        return self.draws.pop(0)

    def uniform(self, low, high, size=None):
        draws = [self.draws.pop(0) for _ in range(size or 1)]
        assert all(low <= draw <= high for draw in draws)
        return np.array(draws) if size else draws[0]

    def normal(self, mean, deviation):
        return mean + self.draws.pop(0) * deviation

    def integers(self, low, high=None, *, endpoint):
        low, high = (0, low) if high is None else (low, high)
        draw = self.draws.pop(0)
        assert endpoint
        assert low <= draw <= high
        return draw


@pytest.fixture
def script():
    """Build a scripted generator; at the end of the test, every draw must have been used."""
    made = []

    def make(*draws):
        made.append(Scripted(*draws))
        return made[-1]

    yield make
    assert all(not generator.draws for generator in made)
