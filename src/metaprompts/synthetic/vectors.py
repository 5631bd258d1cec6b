"""Points and directions in space: x to the right, y up, z away from the viewer, in meters.

Images must be the same on every machine, so nothing here or in the renderer uses sine, cosine, exponential or power of
arrays, or matrix products, whose last bits depend on the processor. Those of sums, products, quotients and square roots
do not.
"""

import math
from functools import lru_cache
from typing import NamedTuple


class Vector(NamedTuple):
    """A point or direction."""

    x: float
    y: float
    z: float

    def plus(self, other: "Vector") -> "Vector":
        """Sum."""
        return Vector(self.x + other.x, self.y + other.y, self.z + other.z)

    def minus(self, other: "Vector") -> "Vector":
        """Difference."""
        return Vector(self.x - other.x, self.y - other.y, self.z - other.z)

    def times(self, factor: float) -> "Vector":
        """Product with a number."""
        return Vector(self.x * factor, self.y * factor, self.z * factor)

    def dot(self, other: "Vector") -> float:
        """Scalar product."""
        return self.x * other.x + self.y * other.y + self.z * other.z

    def cross(self, other: "Vector") -> "Vector":
        """Vector product; right.cross(up) is forward."""
        return Vector(
            self.y * other.z - self.z * other.y,
            self.z * other.x - self.x * other.z,
            self.x * other.y - self.y * other.x,
        )

    def length(self) -> float:
        """Euclidean length."""
        return math.sqrt(self.dot(self))

    def unit(self) -> "Vector":
        """The direction, with length 1."""
        return self.times(1 / self.length())


RIGHT = Vector(1.0, 0.0, 0.0)
UP = Vector(0.0, 1.0, 0.0)
FORWARD = Vector(0.0, 0.0, 1.0)


@lru_cache(maxsize=64)
def cosine_and_sine(angle_deg: float) -> tuple[float, float]:
    """Cosine and sine, the same to the last bit everywhere (the C library's are not)."""
    quarter_turns = round(angle_deg / 90)
    x = (angle_deg - 90 * quarter_turns) * (math.pi / 180)
    squared = x * x
    cosine = sine = term = 1.0
    for order in range(1, 9):
        term *= -squared / ((2 * order - 1) * (2 * order))
        cosine += term
        sine += term / (2 * order + 1)
    sine *= x
    return ((cosine, sine), (-sine, cosine), (-cosine, -sine), (sine, -cosine))[quarter_turns % 4]


def turned(vector: Vector, yaw_deg: float) -> Vector:
    """Turn around the vertical axis; a positive angle turns the forward direction to the right."""
    cosine, sine = cosine_and_sine(yaw_deg)
    return Vector(cosine * vector.x + sine * vector.z, vector.y, cosine * vector.z - sine * vector.x)
