"""The One-Euro filter: smooth at rest, quick in motion."""

import math

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


class OneEuroFilter:
    """A low-pass filter whose cutoff frequency grows with speed (Casiez et al., CHI 2012, equations 1 to 6).

    Args:
        min_cutoff_hz: cutoff at rest; lower is smoother
        beta: growth of the cutoff with speed, per unit of the values; higher values lag less in motion
        speed_cutoff_hz: cutoff of the filter that smooths the speed
    """

    def __init__(self, *, min_cutoff_hz: float, beta: float, speed_cutoff_hz: float = 1.0) -> None:
        self._min_cutoff_hz, self._beta, self._speed_cutoff_hz = min_cutoff_hz, beta, speed_cutoff_hz
        self._values: Values | None = None
        self._speed: Values | None = None

    def __call__(self, values: Values, seconds: float) -> Values:
        """Filter the next values.

        Args:
            values: values of any shape, which must be the same in every call
            seconds: time since the previous values, above 0; not used the first time
        """
        if self._values is None or self._speed is None:
            self._values, self._speed = values, np.zeros_like(values)
            return values
        speed = (values - self._values) / seconds
        self._speed = self._speed + _share(self._speed_cutoff_hz, seconds) * (speed - self._speed)
        cutoff_hz = self._min_cutoff_hz + self._beta * np.abs(self._speed)
        self._values = self._values + _share(cutoff_hz, seconds) * (values - self._values)
        return self._values


def _share(cutoff_hz: Values | float, seconds: float) -> Values | float:
    """The weight of new values."""
    turn = 2 * math.pi * cutoff_hz * seconds
    return turn / (turn + 1)
