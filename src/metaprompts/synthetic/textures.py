"""Antialiased surface patterns, which are averaged over the patch of surface that a pixel covers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaprompts.synthetic.rays import Array, Arrays
from metaprompts.synthetic.solid_arrays import Places
from metaprompts.synthetic.solids import Material

_DASH_M = 2.0


class MaterialTable:
    """The materials of many solids, in arrays.

    Args:
        materials: S materials

    Attributes:
        color: (3, S) RGB
        second: (3, S) RGB
        patterns: unique names
        pattern_codes: (S,) indices into ``patterns``
        size: (S,) meters
        grain: (S,)
        grain_size: (S,) meters
        glows: (S,)
        shine: (S,)
    """

    def __init__(self, materials: Sequence[Material], dtype: type) -> None:
        self.color: Array = np.array([material.color for material in materials], dtype=dtype).T.copy()
        self.second: Array = np.array([material.second for material in materials], dtype=dtype).T.copy()
        self.patterns, codes = np.unique([material.pattern for material in materials], return_inverse=True)
        # Integers compare much faster than strings.
        self.pattern_codes = codes.astype(np.int8)
        self.size: Array = np.array([material.size for material in materials], dtype=dtype)
        self.grain: Array = np.array([material.grain for material in materials], dtype=dtype)
        self.grain_size: Array = np.array([material.grain_size for material in materials], dtype=dtype)
        self.glows = np.array([material.glows for material in materials])
        self.shine: Array = np.array([material.shine for material in materials], dtype=dtype)


def albedo(materials: MaterialTable, which: Places, points: Arrays, normals: Arrays, footprint_m: Array) -> Arrays:
    """The colors of surfaces, before light and shadow.

    Args:
        materials: materials of the solids
        which: (n,) the solid of each point
        points: three (n,) arrays: points on the surface, in meters from the solid's center, along the solid's
            directions
        normals: three (n,) arrays: surface normals, along the same directions
        footprint_m: (n,) width of the patch that one pixel covers

    Returns:
        red, green and blue, about in [0, 1]
    """
    across, along = _unrolled(points, normals)
    share = np.zeros_like(along)
    codes = materials.pattern_codes[which]
    for code, pattern in enumerate(materials.patterns):
        if pattern == "plain":
            continue
        here = np.flatnonzero(codes == code)
        if len(here):
            size = materials.size[which[here]]
            share[here] = _MIX[str(pattern)](size, across[here], along[here], footprint_m[here], normals[1][here])
    brightness = np.ones_like(along)
    grainy = np.flatnonzero(materials.grain[which])
    if len(grainy):
        size = materials.grain_size[which[grainy]]
        fade = materials.grain[which[grainy]] * size / (size + footprint_m[grainy])
        brightness[grainy] += fade * (2 * noise(across[grainy] / size, along[grainy] / size) - 1)
    red, green, blue = (
        (one[which] + (other[which] - one[which]) * share) * brightness
        for one, other in zip(materials.color, materials.second, strict=True)
    )
    return red, green, blue


def pulse(position: Array, share: float, width: Array) -> Array:
    """The fraction of an interval that periodic marks cover.

    Args:
        position: center of the interval; marks begin at integers
        share: fraction of each unit that is marked
        width: width of the interval

    Returns:
        in [0, 1]
    """
    width = np.maximum(width, 1e-6)
    start, end = position - width / 2, position + width / 2
    whole_start, whole_end = np.floor(start), np.floor(end)
    marked_end = whole_end * share + np.minimum(end - whole_end, share)
    marked_start = whole_start * share + np.minimum(start - whole_start, share)
    return np.clip((marked_end - marked_start) / width, 0, 1)


def noise(x: Array, y: Array) -> Array:
    """Smooth random values in [0, 1], one per unit."""
    left, low = np.floor(x), np.floor(y)
    x, y = x - left, y - low
    x, y = x * x * (3 - 2 * x), y * y * (3 - 2 * y)
    column, row = left.astype(np.int64), low.astype(np.int64)
    bottom = _hashed(column, row) * (1 - x) + _hashed(column + 1, row) * x
    top = _hashed(column, row + 1) * (1 - x) + _hashed(column + 1, row + 1) * x
    return bottom * (1 - y) + top * y


def _hashed(column: NDArray[np.int64], row: NDArray[np.int64]) -> Array:
    mixed = (column * 374761393 + row * 668265263) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((mixed ^ (mixed >> 16)) & 0xFFFF) / np.float32(65535)


def _unrolled(point: Arrays, normal: Arrays) -> tuple[Array, Array]:
    """Two coordinates on a surface: across, and up (or away, on level ground)."""
    is_level = np.abs(normal[1]) > 0.7
    faces_side = np.abs(normal[0]) > np.abs(normal[2])
    across = np.where(~is_level & faces_side, point[2], point[0])
    return across, np.where(is_level, point[2], point[1])


def _checker(size: Array, across: Array, along: Array, footprint: Array, upward: Array) -> Array:
    width = footprint / (2 * size)
    one = pulse(across / (2 * size), 0.5, width)
    other = pulse(along / (2 * size), 0.5, width)
    return one + other - 2 * one * other


def _tiles(size: Array, across: Array, along: Array, footprint: Array, upward: Array) -> Array:
    width = footprint / size
    return 1 - pulse(across / size, 0.94, width) * pulse(along / size, 0.94, width)


def _planks(size: Array, across: Array, along: Array, footprint: Array, upward: Array) -> Array:
    column = np.floor(across / size)
    shift = _hashed(column.astype(np.int64), np.zeros_like(column, dtype=np.int64))
    row = np.floor(along / (8 * size) + shift)
    tint = _hashed(column.astype(np.int64), row.astype(np.int64)) - 0.5
    gap = 1 - pulse(across / size, 0.92, footprint / size)
    fade = size / (size + footprint)
    return 0.35 + 0.5 * tint * fade + 0.65 * gap


def _bricks(size: Array, across: Array, along: Array, footprint: Array, upward: Array) -> Array:
    height = size / 3
    row = np.floor(along / height)
    shifted = across / size + 0.5 * (row - 2 * np.floor(row / 2))
    return 1 - pulse(shifted, 0.94, footprint / size) * pulse(along / height, 0.85, footprint / height)


def _windows(size: Array, across: Array, along: Array, footprint: Array, upward: Array) -> Array:
    width = footprint / size
    panes = pulse(across / size + 0.25, 0.5, width) * pulse(along / size + 0.2, 0.55, width)
    return np.where(np.abs(upward) > 0.7, 0.0, panes)


def _stripes(size: Array, across: Array, along: Array, footprint: Array, upward: Array) -> Array:
    return pulse(across / (2 * size), 0.5, footprint / (2 * size))


def _bands(size: Array, across: Array, along: Array, footprint: Array, upward: Array) -> Array:
    return pulse(along / (2 * size), 0.5, footprint / (2 * size))


def _leaves(size: Array, across: Array, along: Array, footprint: Array, upward: Array) -> Array:
    fade = size / (size + footprint)
    rough = noise(across / size, along / size)
    fine = noise(across * 3 / size, along * 3 / size)
    return 0.5 + ((rough - 0.5) + 0.7 * (fine - 0.5)) * fade


def _road(size: Array, across: Array, along: Array, footprint: Array, upward: Array) -> Array:
    """Asphalt whose middle line is dashed; ``size`` is the road's half width."""
    line = pulse((across + 0.06) / 1000, 0.00012, footprint / 1000)
    dashes = line * pulse(along / (2 * _DASH_M), 0.5, footprint / (2 * _DASH_M))
    edge = pulse((across - size + 0.35) / 1000, 0.0001, footprint / 1000)
    other_edge = pulse((across + size - 0.25) / 1000, 0.0001, footprint / 1000)
    return np.minimum(dashes + edge + other_edge, 1)


def _glass(size: Array, across: Array, along: Array, footprint: Array, upward: Array) -> Array:
    """Panes on the sides of a car's cabin, under a roof of the car's color."""
    return (np.abs(upward) <= 0.8).astype(upward.dtype)


def _painting(size: Array, across: Array, along: Array, footprint: Array, upward: Array) -> Array:
    blots: Array = np.clip(1.4 * noise(across / size + 9.3, along / size + 4.1) - 0.2, 0, 1)
    return blots


_MIX: dict[str, Any] = {
    "checker": _checker,
    "tiles": _tiles,
    "planks": _planks,
    "bricks": _bricks,
    "windows": _windows,
    "stripes": _stripes,
    "bands": _bands,
    "leaves": _leaves,
    "road": _road,
    "glass": _glass,
    "painting": _painting,
}
