"""All solids of a world in arrays, for vectorized intersection with many rays."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from metaprompts.synthetic.rays import Array, Arrays
from metaprompts.synthetic.solids import Solid
from metaprompts.synthetic.vectors import Vector

Places = NDArray[np.intp]


class SolidTable:
    """The solids' frames and parameters.

    Args:
        solids: S solids

    Attributes:
        solids: the solids in order
        shapes: (S,) names; a box that tapers is a "wedge"
        centers: (3, S) meters
        frames: (3, 3, S): unit vectors of each frame, then their components
        sizes: (3, S), meters per unit
        half_sides: (3, S), half sides of the box around each solid in meters
        taper: (2, S)
        half_length: (S,)
        casts_shadow: (S,)
    """

    def __init__(self, solids: Sequence[Solid], dtype: type = np.float64) -> None:
        self.solids = solids
        self.shapes = np.array([_shape(solid) for solid in solids])
        # Integers compare much faster than strings.
        self._shape_names, codes = np.unique(self.shapes, return_inverse=True)
        self._shape_codes = codes.astype(np.int8)
        self.centers: Array = np.array([solid.center for solid in solids], dtype=dtype).T.copy()
        self.frames: Array = np.array([solid.directions for solid in solids], dtype=dtype).transpose(1, 2, 0).copy()
        self.sizes: Array = np.array([solid.sizes for solid in solids], dtype=dtype).T.copy()
        self.taper: Array = np.array([solid.taper for solid in solids], dtype=dtype).T.copy()
        self.half_length: Array = np.array([solid.half_length for solid in solids], dtype=dtype)
        self.casts_shadow = np.array([solid.casts_shadow for solid in solids])
        self.half_sides = self._half_sides()

    def local_point(self, point: Vector) -> Array:
        """(3, S), a point of the world in the units of each solid."""
        return self._along(*(part - center for part, center in zip(point, self.centers, strict=True)))

    def local_direction(self, direction: Vector) -> Array:
        """(3, S), a direction of the world in the units of each solid."""
        return self._along(*direction)

    def _along(self, x: Array | float, y: Array | float, z: Array | float) -> Array:
        frames = self.frames
        return np.stack(
            [
                (frame[0] * x + frame[1] * y + frame[2] * z) / size
                for frame, size in zip(frames, self.sizes, strict=True)
            ]
        )

    def rays_of(self, number: int, x: Array, y: Array, z: Array) -> Arrays:
        """World directions in the units of one solid."""
        rows = (self.frames[:, :, number] / self.sizes[:, number, None]).tolist()
        local_x, local_y, local_z = (row[0] * x + row[1] * y + row[2] * z for row in rows)
        return local_x, local_y, local_z

    def meters_along(self, which: Places, x: Array, y: Array, z: Array) -> Arrays:
        """World vectors along the directions of the solids ``which``, in meters."""
        across, up, forward = (frame[0][which] * x + frame[1][which] * y + frame[2][which] * z for frame in self.frames)
        return across, up, forward

    def by_shape(self, which: Places) -> Iterator[tuple[str, Places]]:
        """The shapes of some solids, each with the indices of the solids that have it."""
        codes = self._shape_codes[which]
        for code, shape in enumerate(self._shape_names):
            places = np.flatnonzero(codes == code)
            if len(places):
                yield str(shape), places

    def _half_sides(self) -> Array:
        half_sides = self.sizes.copy()
        half_sides[0] *= np.maximum(self.taper[0], 1)
        # A frustum tapers equally in both directions, and stores the taper once.
        is_round = self.shapes == "frustum"
        half_sides[2] *= np.maximum(np.where(is_round, self.taper[0], self.taper[1]), 1)
        half_sides[1] *= np.where(self.shapes == "capsule", 1 + self.half_length, 1)
        return half_sides


def _shape(solid: Solid) -> str:
    return "wedge" if solid.shape == "box" and solid.taper != (1.0, 1.0) else solid.shape
