"""The pinhole camera of a scene."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaprompts.synthetic.vectors import RIGHT, Vector, cosine_and_sine, turned

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera. Pixel centers have integer coordinates: the top left one is (0, 0).

    Attributes:
        position: position of the pinhole in meters
        yaw_deg: rotation to the right
        pitch_deg: tilt upward
        focal_px: focal length in pixels, the same in both directions
        height: height of the image in pixels
        width: width of the image in pixels
    """

    position: Vector
    yaw_deg: float
    pitch_deg: float
    focal_px: float
    height: int
    width: int

    @property
    def center_px(self) -> tuple[float, float]:
        """The principal point (x, y), which is the image's center."""
        return (self.width - 1) / 2, (self.height - 1) / 2

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(3, 3) intrinsics: pixel = matrix @ (x right, y down, z forward) / z."""
        center_x, center_y = self.center_px
        return np.array([[self.focal_px, 0, center_x], [0, self.focal_px, center_y], [0, 0, 1]])

    @property
    def directions(self) -> tuple[Vector, Vector, Vector]:
        """Unit vectors that point right, up and forward in the image."""
        cosine, sine = cosine_and_sine(self.pitch_deg)
        forward = turned(Vector(0.0, sine, cosine), self.yaw_deg)
        up = turned(Vector(0.0, cosine, -sine), self.yaw_deg)
        return turned(RIGHT, self.yaw_deg), up, forward

    def slopes(self, x_px: Array, y_px: Array) -> tuple[Array, Array]:
        """Slopes of the rays through pixels: meters to the right and up, per meter forward."""
        center_x, center_y = self.center_px
        return (x_px - center_x) / self.focal_px, (center_y - y_px) / self.focal_px

    def project(self, x: Any, y: Any, z: Any) -> tuple[Any, Any, Any]:
        """Project points of the world into the image.

        Args:
            x: numbers or arrays, in meters
            y: like x
            z: like x

        Returns:
            x and y in pixels, and the depth along the optical axis in meters; points behind the camera have a depth
            of 0 or less and no meaningful position
        """
        right, up, forward = self.directions
        x, y, z = x - self.position.x, y - self.position.y, z - self.position.z
        depth = x * forward.x + y * forward.y + z * forward.z
        center_x, center_y = self.center_px
        with np.errstate(divide="ignore", invalid="ignore"):
            across = np.divide(x * right.x + y * right.y + z * right.z, depth)
            above = np.divide(x * up.x + y * up.y + z * up.z, depth)
        return center_x + self.focal_px * across, center_y - self.focal_px * above, depth


def camera_from_angles(
    position: Vector, *, yaw_deg: float, pitch_deg: float, opening_deg: float, height: int, width: int
) -> Camera:
    """A camera given by its horizontal field of view, which does not depend on the image size."""
    cosine, sine = cosine_and_sine(opening_deg / 2)
    return Camera(
        position=position,
        yaw_deg=yaw_deg,
        pitch_deg=pitch_deg,
        focal_px=width / 2 * cosine / sine,
        height=height,
        width=width,
    )
