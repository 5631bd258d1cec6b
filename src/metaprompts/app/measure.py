"""Distances between two points of a depth prediction."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from metaprompts.data.io.intrinsics import Intrinsics, default_intrinsics
from metaprompts.errors import InputError

Point = tuple[int, int]
"""Column and row of a pixel."""

_LINE, _EDGE = (255, 255, 255), (20, 20, 20)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Two points in space.

    Attributes:
        distance_m: straight-line distance between the points, in meters
        depths_m: depths of the two points, in meters along the camera's axis
    """

    distance_m: float
    depths_m: tuple[float, float]


def measure(depth_m: NDArray[np.float32], first: Point, second: Point, camera: Intrinsics) -> Measurement:
    """The distance in space between the surfaces seen at two pixels.

    Args:
        depth_m: (H, W) meters along the camera's axis
        first: column and row of the first pixel
        second: column and row of the second pixel
        camera: the image's camera

    Raises:
        InputError: a point is outside the image, or has no depth
    """
    one, other = (_in_space(depth_m, point, camera) for point in (first, second))
    return Measurement(distance_m=float(np.linalg.norm(one - other)), depths_m=(float(one[2]), float(other[2])))


def camera_of(fov_x_deg: float | None, size: tuple[int, int], stated: tuple[float, str]) -> Intrinsics:
    """The camera of a prediction.

    Args:
        fov_x_deg: as typed by the user; None to use ``stated``
        size: (H, W)
        stated: horizontal field of view found in the image or assumed, and a description of its source

    Raises:
        InputError: the angle is not between 0 and 180 degrees
    """
    if fov_x_deg is not None:
        return Intrinsics.from_fov_x(fov_x_deg, *size, source="as given")
    default = default_intrinsics(*size)
    return default if stated[1] == default.source else Intrinsics.from_fov_x(stated[0], *size, source=stated[1])


def draw_points(photo: Image.Image, points: Sequence[tuple[float, float]]) -> Image.Image:
    """The photo with the points drawn, connected by a line if there are two.

    Args:
        photo: as shown on the page
        points: x and y in pixels of the photo
    """
    drawn = photo.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    radius = max(4, max(drawn.size) // 120)
    if len(points) == 2:
        pen.line([*points], fill=_EDGE, width=radius)
        pen.line([*points], fill=_LINE, width=max(1, radius // 2))
    for x, y in points:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_LINE, outline=_EDGE, width=radius // 2)
    return drawn


def _in_space(depth_m: NDArray[np.float32], point: Point, camera: Intrinsics) -> NDArray[np.float64]:
    column, row = point
    height, width = depth_m.shape
    if not (0 <= column < width and 0 <= row < height):
        raise InputError(f"the point {column}, {row} is outside the image of {width} x {height} pixels")
    depth = float(depth_m[row, column])
    if not (np.isfinite(depth) and depth > 0):
        raise InputError(f"there is no depth at {column}, {row}: click somewhere else")
    x = (column - camera.center_x_px) / camera.focal_x_px * depth
    y = (row - camera.center_y_px) / camera.focal_y_px * depth
    return np.array([x, y, depth])
