"""Camera intrinsics of a photo: from options, a matrix file, EXIF, or a stated default."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from metaprompts.errors import InputError
from metaprompts.utils.files import read_json, read_text

DEFAULT_FOV_DEG = 60.0
"""Default field of view along the longer side: about that of a phone's main camera."""

_EXIF_IFD, _FOCAL_35MM = 0x8769, 0xA405
# The diagonal of 36 mm x 24 mm film.
_FILM_DIAGONAL_MM = math.hypot(36, 24)


@dataclass(frozen=True, kw_only=True)
class Intrinsics:
    """A pinhole camera without distortion. Pixel centers have integer coordinates: the top left one is (0, 0).

    Attributes:
        focal_x_px: horizontal focal length in pixels
        focal_y_px: vertical focal length in pixels
        center_x_px: principal point, from the left edge
        center_y_px: principal point, from the top edge
        source: where the numbers come from, for messages
    """

    focal_x_px: float
    focal_y_px: float
    center_x_px: float
    center_y_px: float
    source: str = "given"

    def __post_init__(self) -> None:
        for name in ("focal_x_px", "focal_y_px"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; expected more than 0")
        if not (math.isfinite(self.center_x_px) and math.isfinite(self.center_y_px)):
            raise InputError(f"the principal point is {self.center_x_px}, {self.center_y_px}; expected finite numbers")

    @classmethod
    def from_focal_px(cls, focal_px: float, height: int, width: int, source: str = "--focal-px") -> Self:
        """Intrinsics with square pixels and the principal point in the center.

        Args:
            focal_px: focal length in pixels of this image
            height: height of the image in pixels
            width: width of the image in pixels
            source: see `Intrinsics`

        Raises:
            InputError: the focal length is not positive
        """
        return cls(
            focal_x_px=focal_px,
            focal_y_px=focal_px,
            center_x_px=(width - 1) / 2,
            center_y_px=(height - 1) / 2,
            source=source,
        )

    @classmethod
    def from_fov_x(cls, fov_x_deg: float, height: int, width: int, source: str = "--fov-x") -> Self:
        """Like `from_focal_px`, but from the horizontal field of view in degrees.

        Raises:
            InputError: the angle is not between 0 and 180 degrees
        """
        if not 0 < fov_x_deg < 180:
            raise InputError(f"the horizontal field of view is {fov_x_deg} degrees; expected more than 0 and below 180")
        return cls.from_focal_px(width / 2 / math.tan(math.radians(fov_x_deg) / 2), height, width, source)

    @classmethod
    def from_matrix(cls, matrix: ArrayLike, source: str = "given") -> Self:
        """Intrinsics from a matrix that maps (x right, y down, z forward) to pixels times z.

        Args:
            matrix: (3, 3): focal lengths and the principal point; without skew, last row 0 0 1
            source: see `Intrinsics`; named in errors

        Raises:
            InputError: the matrix is invalid
        """
        values = np.asarray(matrix, dtype=np.float64)
        expected = "expected 3x3 numbers: fx 0 cx, 0 fy cy, 0 0 1"
        if values.shape != (3, 3) or not np.isfinite(values).all():
            raise InputError(f"{source} is a matrix of shape {values.shape}; {expected}")
        zeros = (values[0, 1], values[1, 0], values[2, 0], values[2, 1], values[2, 2] - 1)
        if not np.allclose(zeros, 0, atol=1e-6 * abs(values).max()):
            raise InputError(f"{source} has skew, or its last row is not 0 0 1: {values.tolist()}; {expected}")
        return cls(
            focal_x_px=float(values[0, 0]),
            focal_y_px=float(values[1, 1]),
            center_x_px=float(values[0, 2]),
            center_y_px=float(values[1, 2]),
            source=source,
        )

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(3, 3), see `from_matrix`."""
        return np.array(
            [[self.focal_x_px, 0, self.center_x_px], [0, self.focal_y_px, self.center_y_px], [0, 0, 1]], np.float64
        )

    def fov_x_deg(self, width: int) -> float:
        """The horizontal field of view of an image of this width, in degrees."""
        return math.degrees(2 * math.atan(width / 2 / self.focal_x_px))


def read_matrix(path: Path) -> Intrinsics:
    """Read a 3x3 matrix from text (nine numbers), JSON (three lists) or ``.npy``.

    Raises:
        InputError: the file cannot be read, or the matrix is invalid
    """
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        elif path.suffix == ".json":
            values = np.array(read_json(path), dtype=np.float64)
        else:
            words = read_text(path).replace(",", " ").split()
            values = np.array(words, dtype=np.float64).reshape(3, 3)
    except (ValueError, TypeError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a matrix of 3x3 numbers: {error}") from error
    return Intrinsics.from_matrix(values, str(path))


def exif_intrinsics(path: Path, height: int, width: int) -> Intrinsics | None:
    """The intrinsics from EXIF's 35 mm equivalent focal length; None if the file does not have it.

    Args:
        path: the image file
        height: height of the upright image in pixels
        width: width of the upright image in pixels
    """
    try:
        with Image.open(path) as image:
            focal_mm = float(image.getexif().get_ifd(_EXIF_IFD).get(_FOCAL_35MM, 0))
    except (OSError, ValueError, TypeError, SyntaxError):
        return None
    if not 0 < focal_mm < math.inf:
        return None
    focal_px = focal_mm * math.hypot(height, width) / _FILM_DIAGONAL_MM
    return Intrinsics.from_focal_px(focal_px, height, width, f"EXIF, {focal_mm:g} mm on 35 mm film")


def default_intrinsics(height: int, width: int) -> Intrinsics:
    """The default intrinsics: `DEFAULT_FOV_DEG` along the longer side."""
    focal_px = max(height, width) / 2 / math.tan(math.radians(DEFAULT_FOV_DEG) / 2)
    source = f"assumed, {DEFAULT_FOV_DEG:g} degrees along the longer side"
    return Intrinsics.from_focal_px(focal_px, height, width, source)
