"""Intersections of rays with the unit shapes, and surface normals.

All rays of an image start in the camera; shadow rays start in the light. Lengths are multiples of the direction vector,
so that a camera ray whose direction goes one meter forward hits solids at a length equal to their depth. The parameters
of a solid may be arrays with one value per ray.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Arrays = tuple[Array, Array, Array]
Number = Any
"""A float, or an array of them."""

_NEVER = np.inf


def distances(
    shape: str, origin: tuple[Number, Number, Number], rays: Arrays, taper: tuple[Number, Number], half_length: Number
) -> Array:
    """The distance along each ray to a solid.

    Args:
        shape: shape of the solid, or "wedge" for a box that tapers
        origin: origin of the rays, outside the solid, in the solid's units
        rays: directions, in the solid's units
        taper: taper of a wedge or frustum
        half_length: half length of a capsule

    Returns:
        lengths in multiples of the direction vector; infinite where the ray misses
    """
    if shape == "plane":
        return _meet_plane(origin[1], rays[1])
    if shape == "box":
        return _meet_box(origin, rays)
    if shape == "wedge":
        return _meet_wedge(origin, rays, taper)
    if shape == "ellipsoid":
        return _meet_ball(origin, rays)
    if shape == "frustum":
        return _meet_frustum(origin, rays, taper[0])
    return _meet_capsule(origin, rays, half_length)


def _meet_plane(height: Number, rise: Array) -> Array:
    distance = -height / rise
    return np.where(distance > 0, distance, _NEVER)


def _meet_box(origin: tuple[Number, Number, Number], rays: Arrays) -> Array:
    near, far = _slab(origin[1], rays[1])
    for axis in (0, 2):
        side_near, side_far = _slab(origin[axis], rays[axis])
        near, far = np.maximum(near, side_near), np.minimum(far, side_far)
    return np.where((near <= far) & (near > 0), near, _NEVER)


def _meet_wedge(origin: tuple[Number, Number, Number], rays: Arrays, taper: tuple[Number, Number]) -> Array:
    near, far = _slab(origin[1], rays[1])
    for axis, narrowing in ((0, taper[0]), (2, taper[1])):
        lean, middle = (1 - narrowing) / 2, (1 + narrowing) / 2
        for sign in (1.0, -1.0):
            approach = sign * rays[axis] + lean * rays[1]
            distance = (middle - sign * origin[axis] - lean * origin[1]) / approach
            enters = approach < 0
            near = np.where(enters, np.maximum(near, distance), near)
            far = np.where(enters, far, np.minimum(far, distance))
    return np.where((near <= far) & (near > 0), near, _NEVER)


def _slab(start: Number, direction: Array) -> tuple[Array, Array]:
    """The distances at which rays enter and leave the slab between -1 and 1."""
    inverse = 1 / direction
    one, other = (-1 - start) * inverse, (1 - start) * inverse
    return np.minimum(one, other), np.maximum(one, other)


def _meet_ball(origin: tuple[Number, Number, Number], rays: Arrays) -> Array:
    squared = rays[0] * rays[0] + rays[1] * rays[1] + rays[2] * rays[2]
    toward = origin[0] * rays[0] + origin[1] * rays[1] + origin[2] * rays[2]
    beyond = origin[0] * origin[0] + origin[1] * origin[1] + origin[2] * origin[2] - 1
    root = toward * toward - squared * beyond
    distance = (-toward - np.sqrt(np.maximum(root, 0))) / squared
    return np.where((root >= 0) & (distance > 0), distance, _NEVER)


def _meet_capsule(origin: tuple[Number, Number, Number], rays: Arrays, half_length: Number) -> Array:
    # A ray that misses the infinite cylinder misses the capsule.
    squared = rays[0] * rays[0] + rays[2] * rays[2]
    toward = origin[0] * rays[0] + origin[2] * rays[2]
    across = origin[0] * origin[0] + origin[2] * origin[2] - 1
    root = toward * toward - squared * across
    distance = (-toward - np.sqrt(np.maximum(root, 0))) / squared
    height = origin[1] + distance * rays[1]
    start = origin[1] - np.where(height > 0, half_length, -half_length)
    squared = squared + rays[1] * rays[1]
    toward = toward + start * rays[1]
    cap_root = toward * toward - squared * (across + start * start)
    cap_distance = (-toward - np.sqrt(np.maximum(cap_root, 0))) / squared
    on_side = np.abs(height) <= half_length
    distance = np.where(on_side, distance, np.where(cap_root >= 0, cap_distance, _NEVER))
    return np.where((root >= 0) & (distance > 0), distance, _NEVER)


def _meet_frustum(origin: tuple[Number, Number, Number], rays: Arrays, narrowing: Number) -> Array:
    x, y, z = rays
    lean, middle = (1 - narrowing) / 2, (1 + narrowing) / 2
    radius = middle - lean * origin[1]
    squared = x * x + z * z - lean * lean * y * y
    toward = origin[0] * x + origin[2] * z + lean * radius * y
    root = toward * toward - squared * (origin[0] * origin[0] + origin[2] * origin[2] - radius * radius)
    reach = np.sqrt(np.maximum(root, 0))
    best = np.full_like(x, _NEVER)
    for distance in ((-toward - reach) / squared, (-toward + reach) / squared):
        valid = (root >= 0) & (distance > 0) & (np.abs(origin[1] + distance * y) <= 1)
        best = np.where(valid & (distance < best), distance, best)
    for cap, cap_radius in ((-1.0, 1.0), (1.0, narrowing)):
        distance = (cap - origin[1]) / y
        across, along = origin[0] + distance * x, origin[2] + distance * z
        valid = (distance > 0) & (across * across + along * along <= cap_radius * cap_radius)
        best = np.where(valid & (distance < best), distance, best)
    return best


def local_normals(shape: str, points: Arrays, taper: tuple[Number, Number], half_length: Number) -> Arrays:
    """Outward normals at points of the surface, in the solid's units, not normalized."""
    x, y, z = points
    if shape == "plane":
        return np.zeros_like(x), np.ones_like(x), np.zeros_like(x)
    if shape == "ellipsoid":
        return x, y, z
    if shape == "capsule":
        return x, y - np.clip(y, -half_length, half_length), z
    if shape == "frustum":
        lean, middle = (1 - taper[0]) / 2, (1 + taper[0]) / 2
        on_cap = np.abs(y) > 1 - 1e-9
        side = (~on_cap).astype(x.dtype)
        return x * side, np.where(on_cap, np.sign(y), lean * (middle - lean * y)), z * side
    return _box_normals(points, taper)


def _box_normals(points: Arrays, taper: tuple[Number, Number]) -> Arrays:
    """The normals of a box; a point belongs to the nearest face."""
    x, y, z = points
    lean_x, lean_z = (1 - taper[0]) / 2, (1 - taper[1]) / 2
    gap_x = np.abs(np.abs(x) - ((1 + taper[0]) / 2 - lean_x * y))
    gap_z = np.abs(np.abs(z) - ((1 + taper[1]) / 2 - lean_z * y))
    gap_y = np.abs(np.abs(y) - 1)
    is_x = (gap_x <= gap_y) & (gap_x <= gap_z)
    is_z = ~is_x & (gap_z <= gap_y)
    normal_y = np.where(is_x, lean_x, np.where(is_z, lean_z, np.sign(y)))
    return np.sign(x) * is_x, normal_y, np.sign(z) * is_z
