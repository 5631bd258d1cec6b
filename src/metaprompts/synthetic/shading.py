"""Color of the points that an image's rays hit: pattern, light, shadow, haze, sky."""

import numpy as np

from metaprompts.synthetic.rays import Array, Arrays, local_normals
from metaprompts.synthetic.shadows import unshaded
from metaprompts.synthetic.solid_arrays import Places, SolidTable
from metaprompts.synthetic.textures import MaterialTable, albedo, noise
from metaprompts.synthetic.vectors import Vector
from metaprompts.synthetic.world import Light, Sky

# Points are lifted off their surface, so that the surface does not shade itself.
_LIFT_M = 0.02


def surface_colors(
    table: SolidTable,
    light: Light,
    eye: Vector,
    rays: Arrays,
    depth: Array,
    which: Places,
    pixel_slope: float,
) -> Array:
    """The colors of rays that hit a solid.

    Args:
        table: the solids
        light: light of the world
        eye: origin of the rays
        rays: three (n,) arrays: directions with a forward component of 1 m; rays of neighboring pixels are adjacent
        depth: (n,) length of each ray
        which: (n,) the solid that each ray hits
        pixel_slope: width of a pixel at one meter

    Returns:
        (3, n) RGB, not limited to 1
    """
    distance = _length(rays)
    points, along, local, normals = _surface(table, eye, rays, depth, which)
    facing = _dot(normals, rays) / distance
    # A pixel covers more of a surface that is seen at a slant.
    footprint_m = depth * pixel_slope / np.maximum(np.abs(facing), 0.15)
    sign = np.copysign(np.ones_like(facing), -facing)
    normals = (normals[0] * sign, normals[1] * sign, normals[2] * sign)
    materials = MaterialTable([solid.material for solid in table.solids], depth.dtype.type)
    own = np.stack(albedo(materials, which, along, local, footprint_m))
    lit = _lit(table, light, points, normals, rays, distance, materials.shine[which], own)
    return np.where(materials.glows[which], own, lit)


def surface_normals(table: SolidTable, eye: Vector, rays: Arrays, depth: Array, which: Places) -> Arrays:
    """Unit normals in the world, on the eye's side, where rays meet surfaces; arguments as for `surface_colors`."""
    normals = _surface(table, eye, rays, depth, which)[-1]
    sign = np.copysign(1, -_dot(normals, rays))
    return normals[0] * sign, normals[1] * sign, normals[2] * sign


def _surface(
    table: SolidTable, eye: Vector, rays: Arrays, depth: Array, which: Places
) -> tuple[Arrays, Arrays, Arrays, Arrays]:
    """The points and normals, in world coordinates and in the coordinates of their solids."""
    points = (eye.x + rays[0] * depth, eye.y + rays[1] * depth, eye.z + rays[2] * depth)
    offset = (part - center[which] for part, center in zip(points, table.centers, strict=True))
    along = table.meters_along(which, *offset)
    local = _local_normals(table, along, which)
    return points, along, local, _to_world(table, local, which)


def _local_normals(table: SolidTable, along: Arrays, which: Places) -> Arrays:
    """Unit normals along the directions of each point's solid."""
    normals = np.empty((3, len(which)), dtype=along[0].dtype)
    for shape, here in table.by_shape(which):
        solid = which[here]
        sizes = [size[solid] for size in table.sizes]
        units = (along[0][here] / sizes[0], along[1][here] / sizes[1], along[2][here] / sizes[2])
        taper = (table.taper[0][solid], table.taper[1][solid])
        found = local_normals(shape, units, taper, table.half_length[solid])
        for axis in range(3):
            normals[axis, here] = found[axis] / sizes[axis]
    length = np.sqrt(normals[0] * normals[0] + normals[1] * normals[1] + normals[2] * normals[2])
    return normals[0] / length, normals[1] / length, normals[2] / length


def _to_world(table: SolidTable, local: Arrays, which: Places) -> Arrays:
    x, y, z = (
        local[0] * table.frames[0][part][which]
        + local[1] * table.frames[1][part][which]
        + local[2] * table.frames[2][part][which]
        for part in range(3)
    )
    return x, y, z


def _dot(one: Arrays, other: Arrays) -> Array:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


def _length(vectors: Arrays) -> Array:
    return np.sqrt(_dot(vectors, vectors))


def _lit(
    table: SolidTable,
    light: Light,
    points: Arrays,
    normals: Arrays,
    rays: Arrays,
    ray_length: Array,
    shine: Array,
    own: Array,
) -> Array:
    lamp = light.position
    arriving = (
        points[0] + _LIFT_M * normals[0] - lamp.x,
        points[1] + _LIFT_M * normals[1] - lamp.y,
        points[2] + _LIFT_M * normals[2] - lamp.z,
    )
    distance = _length(arriving)
    facing = -_dot(arriving, normals) / distance
    strength = np.maximum(facing, 0) * light.strength
    if light.reach_m is not None:
        strength /= 1 + (distance / light.reach_m) * (distance / light.reach_m)
    reached = unshaded(table, lamp, arriving, facing > 0) if light.casts_shadows else np.ones_like(facing)
    strength *= reached
    # More light comes from above than from below.
    around = 0.75 + 0.25 * normals[1]
    highlight = np.zeros_like(shine)
    shiny = np.flatnonzero((shine > 0) & (reached > 0))
    if len(shiny):
        mirrored = _highlight(
            _taken(arriving, shiny), _taken(normals, shiny), _taken(rays, shiny), distance[shiny] * ray_length[shiny]
        )
        highlight[shiny] = mirrored * shine[shiny]
    colors = np.empty_like(own)
    for channel in range(3):
        received = light.ambient[channel] * around + light.color[channel] * strength
        colors[channel] = own[channel] * received + light.color[channel] * highlight
    return colors


def _taken(vectors: Arrays, places: Places) -> Arrays:
    return vectors[0][places], vectors[1][places], vectors[2][places]


def _highlight(arriving: Arrays, normals: Arrays, rays: Arrays, lengths: Array) -> Array:
    """Phong's highlight, with exponent 16."""
    twice = 2 * _dot(arriving, normals)
    mirrored = (arriving[0] - twice * normals[0], arriving[1] - twice * normals[1], arriving[2] - twice * normals[2])
    match = np.maximum(-_dot(mirrored, rays) / lengths, 0)
    for _ in range(4):
        match = match * match
    return match


def sky_colors(sky: Sky, directions: Arrays) -> Array:
    """The colors of rays that hit nothing, from horizon to zenith, with clouds.

    Returns:
        (3, n) RGB
    """
    x, y, z = directions
    length = np.sqrt(x * x + y * y + z * z)
    height = np.clip(y / length, 0.0, 1.0)
    rise = np.minimum(2.2 * height, 1.0)
    # Clouds lie in a horizontal plane, so that they shrink toward the horizon.
    sheet = 1 / (height + 0.12)
    across, along = x / length * sheet, z / length * sheet
    puffs = 0.65 * noise(across * 1.7, along * 1.7) + 0.35 * noise(across * 4.6 + 3, along * 4.6)
    cover = np.clip((puffs - 1 + sky.clouds) * 3, 0, 1) * np.minimum(height * 8, 1)
    return np.stack(
        [
            (low + (high - low) * rise) * (1 - cover) + 0.97 * cover
            for low, high in zip(sky.horizon, sky.zenith, strict=True)
        ]
    )


def hazy(colors: Array, sky: Sky, depth: Array) -> Array:
    """Blend distant points into the color of the horizon."""
    if sky.haze_m is None:
        return colors
    share = depth / (depth + sky.haze_m)
    share = share * share
    return np.stack([color + (far - color) * share for color, far in zip(colors, sky.horizon, strict=True)])
