"""Exact optical flow between two renderings of a world whose solids have moved."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaprompts.synthetic.camera import Camera
from metaprompts.synthetic.render import Rendering
from metaprompts.synthetic.world import World

View = tuple[World, Camera, Rendering]
"""A world, a camera, and its rendering. Solids are identified by number, so that their order must stay the same."""

# The distance assumed for the sky.
_SKY_M = 1e6
# A point is visible if its depth differs by less than this fraction from the rendered depth.
_SAME_DEPTH = 0.02


def exact_flow(now: View, before: View) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Follow the point seen at each pixel back in time.

    Args:
        now: the current view
        before: the previous view, of the same size

    Returns:
        (H, W, 2) float32: x and y to add to a pixel's position to find its point in the previous view, in pixels; and
        (H, W) bool, whether the point is visible there
    """
    world, camera, rendering = now
    rows, columns = np.mgrid[: camera.height, : camera.width].astype(np.float64)
    depth = np.where(np.isfinite(rendering.depth_m), rendering.depth_m, _SKY_M).astype(np.float64)
    points = _moved_back(_points(camera, columns, rows, depth), rendering.solids, world, before[0])
    x_px, y_px, depth_before = before[1].project(*points)
    flow = np.stack([x_px - columns, y_px - rows], axis=2).astype(np.float32)
    return flow, _seen(x_px, y_px, depth_before, before[2])


def _points(camera: Camera, x_px: Any, y_px: Any, depth: Any) -> tuple[Any, Any, Any]:
    """The points in the world that pixels show."""
    across, above = camera.slopes(x_px, y_px)
    right, up, forward = camera.directions
    x, y, z = (
        start + depth * (ahead + across * aside + above * upward)
        for start, aside, upward, ahead in zip(camera.position, right, up, forward, strict=True)
    )
    return x, y, z


def _moved_back(points: tuple[Any, Any, Any], which: Any, now: World, before: World) -> tuple[Any, Any, Any]:
    """The previous positions of points, which keep their coordinates relative to their solid."""
    moved = [axis.copy() for axis in points]
    pairs = zip(_solids(now), _solids(before), strict=True)
    for number, (solid, former) in enumerate(pairs):
        if solid == former:
            continue
        here = which == number
        if not here.any():
            continue
        offset = [axis[here] - center for axis, center in zip(points, solid.center, strict=True)]
        for part in range(3):
            moved[part][here] = former.center[part]
        for direction, size, old, old_size in zip(
            solid.directions, solid.sizes, former.directions, former.sizes, strict=True
        ):
            along = sum(value * axis for value, axis in zip(offset, direction, strict=True)) / size * old_size
            for part in range(3):
                moved[part][here] += along * old[part]
    return moved[0], moved[1], moved[2]


def _solids(world: World) -> list[Any]:
    return [solid for thing in world.things for solid in thing.solids]


def _seen(x_px: Any, y_px: Any, depth: Any, rendering: Rendering) -> NDArray[np.bool_]:
    """Whether points are on the surface that is visible at their nearest pixel."""
    height, width = rendering.depth_m.shape
    with np.errstate(invalid="ignore"):
        columns, rows = np.floor(x_px + 0.5), np.floor(y_px + 0.5)
        inside = (depth > 0) & (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    column, row = (np.where(inside, values, 0).astype(np.intp) for values in (columns, rows))
    there = np.where(np.isfinite(rendering.depth_m), rendering.depth_m, _SKY_M)[row, column]
    seen: NDArray[np.bool_] = inside & (np.abs(there - depth) < _SAME_DEPTH * depth)
    return seen
