"""Shadows: which points of an image are lit."""

import numpy as np
from numpy.typing import NDArray

from metaprompts.synthetic.rays import Array, Arrays, distances
from metaprompts.synthetic.solid_arrays import Places, SolidTable
from metaprompts.synthetic.vectors import Vector

_GROUP = 64


def unshaded(table: SolidTable, light: Vector, rays: Arrays, asked: NDArray[np.bool_]) -> Array:
    """1 for points reached by the light, 0 for points in shadow.

    Points are tested in groups of neighbors; a solid is intersected only with the rays of groups that it may shade. The
    result does not depend on the grouping.

    Args:
        table: the solids
        light: position of the light
        rays: three (n,) arrays: directions from the light to the points; rays of neighboring pixels are adjacent
        asked: (n,), whether a point faces the light; points that face away get 1
    """
    shaded = np.zeros(len(asked), dtype=bool)
    groups = _Groups(rays, asked)
    starts = table.local_point(light)
    casters = np.flatnonzero(table.casts_shadow)
    for number, candidates in zip(casters.tolist(), groups.meeting(table, casters, light), strict=True):
        tried = groups.members(candidates)
        tried = tried[asked[tried] & ~shaded[tried]]
        if len(tried):
            local = table.rays_of(number, rays[0][tried], rays[1][tried], rays[2][tried])
            start = (float(starts[0, number]), float(starts[1, number]), float(starts[2, number]))
            solid = table.solids[number]
            found = distances(str(table.shapes[number]), start, local, solid.taper, solid.half_length)
            shaded[tried[found < 1]] = True
    return (~shaded).astype(rays[0].dtype)


class _Groups:
    """Groups of consecutive rays: each group's middle ray, and the largest distance of ray ends from its end."""

    def __init__(self, rays: Arrays, asked: NDArray[np.bool_]) -> None:
        count = len(asked)
        self._starts = np.arange(0, count, _GROUP)
        self._sizes = np.diff(np.append(self._starts, count))
        lows = [np.minimum.reduceat(axis, self._starts) for axis in rays]
        highs = [np.maximum.reduceat(axis, self._starts) for axis in rays]
        self._middles = [(low + high) / 2 for low, high in zip(lows, highs, strict=True)]
        sides = [high - low for low, high in zip(lows, highs, strict=True)]
        self._radii = np.sqrt(sides[0] * sides[0] + sides[1] * sides[1] + sides[2] * sides[2]) / 2
        self._asked = np.logical_or.reduceat(asked, self._starts)

    def meeting(self, table: SolidTable, casters: Places, light: Vector) -> NDArray[np.bool_]:
        """(casters, groups), whether the rays of a group may meet a solid.

        The test is whether the middle ray meets the solid's bounding box, widened by the largest distance of other rays
        from the middle ray.
        """
        x, y, z = (part - center[casters] for part, center in zip(light, table.centers, strict=True))
        near = np.zeros((len(casters), len(self._radii)), dtype=x.dtype)
        far = np.ones_like(near)
        for frame, half_side in zip(table.frames, table.half_sides, strict=True):
            a, b, c = (part[casters][:, None] for part in frame)
            step = a * self._middles[0] + b * self._middles[1] + c * self._middles[2]
            start = a * x[:, None] + b * y[:, None] + c * z[:, None]
            reach = half_side[casters][:, None] + self._radii
            one, other = (-reach - start) / step, (reach - start) / step
            near = np.maximum(near, np.minimum(one, other))
            far = np.minimum(far, np.maximum(one, other))
        return (near <= far) & self._asked

    def members(self, groups: NDArray[np.bool_]) -> Places:
        """The indices of all rays of some groups."""
        chosen = np.flatnonzero(groups)
        places = self._starts[chosen][:, None] + np.arange(_GROUP)
        return places[np.arange(_GROUP) < self._sizes[chosen][:, None]]
