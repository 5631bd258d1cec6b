"""Render a world, as seen by a camera, to an image with ground truth for every pixel."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaprompts.synthetic.camera import Camera
from metaprompts.synthetic.rays import Array, Arrays, distances
from metaprompts.synthetic.shading import hazy, sky_colors, surface_colors, surface_normals
from metaprompts.synthetic.solid_arrays import Places, SolidTable
from metaprompts.synthetic.solids import Solid
from metaprompts.synthetic.vectors import Vector
from metaprompts.synthetic.world import World

# Offsets of extra samples in edge pixels: a rotated square, in pixels from the center.
_SAMPLES = ((-0.375, -0.125), (0.125, -0.375), (0.375, 0.125), (-0.125, 0.375))
# Bilinear weights of the 3x3 neighborhood, averaged over the samples, row by row.
_BLUR = (3 / 256, 26 / 256, 3 / 256, 26 / 256, 140 / 256, 26 / 256, 3 / 256, 26 / 256, 3 / 256)
_EDGE_CONTRAST = 0.08
_NEAR_M = 0.05
_SQUARE = 8
# Smaller solids are not drawn.
_SMALLEST_PX = 0.7


@dataclass(frozen=True, kw_only=True, eq=False)
class Rendering:
    """An image and its ground truth.

    Attributes:
        image: (H, W, 3) uint8 RGB
        depth_m: (H, W) float32, along the optical axis; infinite for the sky
        normals: (H, W, 3) float32 unit normals: x right, y up, z toward the camera; 0 for the sky
        things: (H, W) int32, index of the visible thing in the world's list; -1 for the sky
        solids: (H, W) int32, index of the visible solid in the list of all things' solids; -1 for the sky
    """

    image: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    normals: NDArray[np.float32]
    things: NDArray[np.int32]
    solids: NDArray[np.int32]


def render(world: World, camera: Camera) -> Rendering:
    """Cast a ray through every pixel, and supersample pixels whose neighbors differ in color."""
    solids = [solid for thing in world.things for solid in thing.solids]
    owner = np.repeat(np.arange(len(world.things)), [len(thing.solids) for thing in world.things])
    table = SolidTable(solids)
    with np.errstate(all="ignore"):
        views = _views(table, camera)
        depth, which = _first_hits(views, camera)
        colors = _colors(world, SolidTable(solids, np.float32), camera, depth, which)
        colors = _smoothed(colors, which, views, camera)
    things = np.append(owner, -1)[which]
    image = np.floor(colors * 255 + 0.5).astype(np.uint8)
    return Rendering(
        image=np.ascontiguousarray(image.transpose(1, 2, 0)),
        depth_m=depth.astype(np.float32),
        normals=_normals(table, camera, depth, which),
        things=things.astype(np.int32),
        solids=which.astype(np.int32),
    )


@dataclass(frozen=True)
class _View:
    """A solid relative to the camera. Ray directions are affine in the pixel position, also in the solid's units.

    Attributes:
        number: number of the solid
        shape: shape of the solid
        solid: the solid in world coordinates
        bounds: the rows and columns that the solid may cover: first row, row after the last, first column, column after
            the last
        nearest_m: lower bound of the solid's depth
        eye: the camera's position, in the solid's units
        right: the camera's right, in the solid's units
        up: the camera's up direction, in the solid's units
        forward: the camera's forward direction, in the solid's units
    """

    number: int
    shape: str
    solid: Solid
    bounds: tuple[int, int, int, int]
    nearest_m: float
    eye: Vector
    right: Vector
    up: Vector
    forward: Vector

    def meet(self, across: Array, above: Array) -> Array:
        """The depth at which rays with these slopes hit the solid."""
        x, y, z = (
            right * across + (up * above + forward)
            for right, up, forward in zip(self.right, self.up, self.forward, strict=True)
        )
        return distances(self.shape, self.eye, (x, y, z), self.solid.taper, self.solid.half_length)


def _views(table: SolidTable, camera: Camera) -> list[_View]:
    """The view of each solid that may be visible, nearest first, so that hidden solids need not be intersected."""
    corners = _corners(table)
    x_px, y_px, depth = camera.project(*corners)
    nearest_m = np.where(table.shapes == "plane", 0, depth.min(axis=0))
    bounds = _bounds(table, camera, corners, depth, x_px, y_px)
    eye = table.local_point(camera.position)
    axes = [table.local_direction(axis) for axis in camera.directions]
    return [
        _View(
            int(number),
            str(table.shapes[number]),
            table.solids[number],
            bounds[number],
            float(nearest_m[number]),
            *(Vector(*local[:, number].tolist()) for local in (eye, *axes)),
        )
        for number in np.argsort(nearest_m, kind="stable")
        if number in bounds
    ]


def _corners(table: SolidTable) -> tuple[Array, Array, Array]:
    """Three (8, S) arrays: x, y and z of the corners of the boxes around the solids."""
    signs = [np.array([(corner >> axis & 1) * 2.0 - 1 for corner in range(8)])[:, None] for axis in range(3)]
    scaled = [sign * half_side for sign, half_side in zip(signs, table.half_sides, strict=True)]
    x, y, z = (
        table.centers[part]
        + scaled[0] * table.frames[0][part]
        + scaled[1] * table.frames[1][part]
        + scaled[2] * table.frames[2][part]
        for part in range(3)
    )
    return x, y, z


def _bounds(
    table: SolidTable, camera: Camera, corners: tuple[Array, Array, Array], depth: Array, x_px: Array, y_px: Array
) -> dict[int, tuple[int, int, int, int]]:
    """The rows and columns that each solid may cover; solids out of view are dropped."""
    spans = [*_ends(x_px), *_ends(y_px)]
    is_before, is_behind = (depth >= _NEAR_M).any(axis=0), (depth < _NEAR_M).any(axis=0)
    for number in np.flatnonzero(is_before & is_behind):
        columns, rows, _ = camera.project(*_in_front([axis[:, number] for axis in corners], depth[:, number]))
        for span, end in zip(spans, (*_ends(columns), *_ends(rows)), strict=True):
            span[number] = end
    left, right, top, bottom = spans
    is_large = np.maximum(right - left, bottom - top) >= _SMALLEST_PX
    is_inside = (right > -1) & (left < camera.width) & (bottom > -1) & (top < camera.height)
    limits = (camera.height, camera.height, camera.width, camera.width)
    edges = (np.floor(top), np.ceil(bottom) + 1, np.floor(left), np.ceil(right) + 1)
    clipped = np.stack([np.clip(edge, 0, limit) for edge, limit in zip(edges, limits, strict=True)], axis=1)
    is_plane = table.shapes == "plane"
    clipped[is_plane] = (0, camera.height, 0, camera.width)
    seen = np.flatnonzero(is_plane | (is_before & is_large & is_inside))
    rows_and_columns = clipped[seen].astype(int).tolist()
    return {int(number): tuple(bounds) for number, bounds in zip(seen, rows_and_columns, strict=True)}


def _ends(values: Array) -> tuple[Array, Array]:
    return values.min(axis=0), values.max(axis=0)


def _in_front(corners: list[Array], depth: Array) -> list[Array]:
    """The corners of the part of a box that is in front of the camera."""
    kept = np.flatnonzero(depth >= _NEAR_M)
    behind = np.flatnonzero(depth < _NEAR_M)
    pairs = [(one, other) for one in kept for other in behind if (one ^ other) in (1, 2, 4)]
    start, end = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    share = (depth[start] - _NEAR_M) / (depth[start] - depth[end])
    return [np.concatenate([axis[kept], axis[start] + share * (axis[end] - axis[start])]) for axis in corners]


def _first_hits(views: list[_View], camera: Camera) -> tuple[Array, Places]:
    """The depth and number of the first solid along each pixel's ray.

    Returns:
        (H, W) depth, infinite where a ray hits nothing; (H, W) number of the solid, there -1
    """
    depth = np.full((camera.height, camera.width), np.inf)
    which = np.full((camera.height, camera.width), -1, dtype=np.intp)
    across, above = camera.slopes(np.arange(camera.width, dtype=np.float64), np.arange(camera.height, dtype=np.float64))
    for view in views:
        top, bottom, left, right = view.bounds
        here = depth[top:bottom, left:right]
        if here.max() <= view.nearest_m:
            continue
        found = view.meet(across[left:right][None, :], above[top:bottom][:, None])
        nearer = found < here
        here[nearer] = found[nearer]
        which[top:bottom, left:right][nearer] = view.number
    return depth, which


def _world_rays(camera: Camera, across: Array, above: Array) -> Arrays:
    x, y, z = (f + r * across + u * above for r, u, f in zip(*camera.directions, strict=True))
    return x, y, z


def _normals(table: SolidTable, camera: Camera, depth: Array, which: Places) -> NDArray[np.float32]:
    rows, columns = np.nonzero(which >= 0)
    rays = _world_rays(camera, *camera.slopes(columns.astype(np.float64), rows.astype(np.float64)))
    x, y, z = surface_normals(table, camera.position, rays, depth[rows, columns], which[rows, columns])
    right, up, forward = camera.directions
    normals = np.zeros((*which.shape, 3), np.float32)
    for axis, (direction, sign) in enumerate(((right, 1), (up, 1), (forward, -1))):
        normals[rows, columns, axis] = sign * (x * direction.x + y * direction.y + z * direction.z)
    return normals


def _colors(world: World, table: SolidTable, camera: Camera, depth: Array, which: Places) -> Array:
    """(3, H, W) colors in [0, 1] at the pixels' centers."""
    order = _by_blocks(camera.height, camera.width)
    rows, columns = np.divmod(order, camera.width)
    directions = _world_rays(camera, *camera.slopes(columns.astype(np.float32), rows.astype(np.float32)))
    depth, which = depth.ravel()[order].astype(np.float32), which.ravel()[order]
    colors = np.empty((3, len(order)), dtype=np.float32)
    hit, missed = np.flatnonzero(which >= 0), np.flatnonzero(which < 0)
    if len(hit):
        towards = _taken(directions, hit)
        shaded = surface_colors(
            table, world.light, camera.position, towards, depth[hit], which[hit], 1 / camera.focal_px
        )
        colors[:, order[hit]] = hazy(shaded, world.sky, depth[hit])
    if len(missed):
        colors[:, order[missed]] = sky_colors(world.sky, _taken(directions, missed))
    return np.clip(colors, 0, 1).reshape(3, camera.height, camera.width)


def _taken(rays: Arrays, places: Places) -> Arrays:
    return rays[0][places], rays[1][places], rays[2][places]


def _by_blocks(height: int, width: int) -> Places:
    """The pixel indices, ordered block by block to keep neighbors together."""
    rows, columns = np.divmod(np.arange(height * width), width)
    square = (rows // _SQUARE) * (-(-width // _SQUARE)) + columns // _SQUARE
    return np.argsort(square, kind="stable")


def _smoothed(colors: Array, which: Places, views: list[_View], camera: Camera) -> Array:
    """Replace the colors of edge pixels with the mean of four samples within each pixel.

    A sample's color is interpolated from surrounding pixel centers that show the same solid, weighted by distance.
    """
    outlines, edges = _outlines(which), _edges(colors)
    smoothed = np.where(edges & ~outlines, _blurred(colors), colors)
    y_px, x_px = np.nonzero(edges & outlines)
    if len(y_px):
        found = _solids_at_samples(views, camera, which, x_px, y_px)
        samples = [_borrowed(colors, which, x_px, y_px, shift, found[n]) for n, shift in enumerate(_SAMPLES)]
        smoothed[:, y_px, x_px] = (samples[0] + samples[1] + samples[2] + samples[3]) / len(_SAMPLES)
    return smoothed


def _edges(colors: Array) -> NDArray[np.bool_]:
    """(H, W) pixels whose color differs from that of a neighbor."""
    edges = np.zeros(colors.shape[1:], dtype=bool)
    across = (np.abs(np.diff(colors, axis=2)) > _EDGE_CONTRAST).any(axis=0)
    along = (np.abs(np.diff(colors, axis=1)) > _EDGE_CONTRAST).any(axis=0)
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= along
    edges[:-1] |= along
    return edges


def _outlines(which: Places) -> NDArray[np.bool_]:
    """(H, W) pixels with a different solid among their eight neighbors."""
    outlines = np.zeros(which.shape, dtype=bool)
    for neighbor in _neighbors(which):
        outlines |= neighbor != which
    return outlines


def _neighbors(values: Any) -> Iterator[Any]:
    """Every pixel and its eight neighbors; beyond the border, the outermost pixels are repeated."""
    padded = np.pad(values, [(0, 0)] * (values.ndim - 2) + [(1, 1), (1, 1)], mode="edge")
    height, width = values.shape[-2:]
    for row in range(3):
        for column in range(3):
            yield padded[..., row : row + height, column : column + width]


def _blurred(colors: Array) -> Array:
    """The result of `_borrowed` if all centers showed the same solid."""
    total = np.zeros_like(colors)
    for neighbor, weight in zip(_neighbors(colors), _BLUR, strict=True):
        total += np.float32(weight) * neighbor
    return total


def _solids_at_samples(views: list[_View], camera: Camera, which: Places, x_px: Places, y_px: Places) -> Places:
    """(samples, n), the first solid at each sample of n pixels, among the solids that the pixel's neighbors show."""
    numbers = np.stack([neighbor[y_px, x_px] for neighbor in _neighbors(which)])
    depth = np.full((len(_SAMPLES), len(x_px)), np.inf)
    found = np.full((len(_SAMPLES), len(x_px)), -1, dtype=np.intp)
    shift_x, shift_y = (np.array(shifts)[:, None] for shifts in zip(*_SAMPLES, strict=True))
    # One code per solid and pixel that may show it, in the order of the solids.
    count = len(x_px)
    codes = np.unique((numbers * count + np.arange(count)).ravel())
    starts = np.searchsorted(codes, np.arange(which.max() + 2) * count)
    for view in (view for view in views if view.number < len(starts) - 1):
        tried = codes[starts[view.number] : starts[view.number + 1]] - view.number * count
        if len(tried):
            met = view.meet(*camera.slopes(x_px[tried] + shift_x, y_px[tried] + shift_y))
            before = depth[:, tried]
            depth[:, tried] = np.minimum(met, before)
            found[:, tried] = np.where(met < before, view.number, found[:, tried])
    return found


def _borrowed(
    colors: Array, which: Places, x_px: Places, y_px: Places, shift: tuple[float, float], found: Places
) -> Array:
    """(3, n), colors of samples, interpolated between the surrounding centers that show the same solid."""
    height, width = which.shape
    share_x, share_y = abs(shift[0]), abs(shift[1])
    neighbor_x = np.clip(x_px + (1 if shift[0] > 0 else -1), 0, width - 1)
    neighbor_y = np.clip(y_px + (1 if shift[1] > 0 else -1), 0, height - 1)
    total = np.zeros((3, len(x_px)), dtype=colors.dtype)
    weights = np.zeros(len(x_px), dtype=colors.dtype)
    for x, weight_x in ((x_px, 1 - share_x), (neighbor_x, share_x)):
        for y, weight_y in ((y_px, 1 - share_y), (neighbor_y, share_y)):
            weight = (which[y, x] == found) * np.float32(weight_x * weight_y)
            total += colors[:, y, x] * weight
            weights += weight
    # A solid that no center shows is thinner than a pixel; the color of the pixel's own center is used.
    return np.where(weights > 0, total / weights, colors[:, y_px, x_px])
