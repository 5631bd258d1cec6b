"""The unbiased crop of a person (UDP, Huang et al. 2020): from image to crop coordinates and back.

Distances are counted between pixel centers: a box's left edge falls on column 0 of the crop, its right edge on column
width - 1. So crop, heatmap and image can be mapped onto each other without the half-pixel shift of the usual
convention.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def box_center_scale(
    box_xywh: ArrayLike, aspect: float, *, padding: float = 1.25
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Enlarge a box to an aspect ratio, then by a padding factor.

    Args:
        box_xywh: (4,) left, top, width, height in pixels
        aspect: target width / height
        padding: factor of both sides, applied afterwards

    Returns:
        center (2,) x and y, and size (2,) width and height, in pixels
    """
    left, top, width, height = np.asarray(box_xywh, dtype=np.float32)
    center = np.array([left + width / 2, top + height / 2], dtype=np.float32)
    return center, fit_aspect(np.array([width, height], dtype=np.float32), aspect) * np.float32(padding)


def fit_aspect(size: NDArray[np.float32], aspect: float) -> NDArray[np.float32]:
    """Enlarge the side that is too short.

    Args:
        size: (2,) width and height
        aspect: target width / height

    Returns:
        (2,) width and height
    """
    width, height = size
    return np.array([max(width, height * aspect), max(height, width / aspect)], dtype=np.float32)


def udp_matrix(
    center: ArrayLike, size: ArrayLike, rotation_deg: float, output_size: tuple[int, int]
) -> NDArray[np.float64]:
    """Build the matrix from image to crop.

    Args:
        center: (2,) x and y of the box, in pixels of the image
        size: (2,) width and height of the box
        rotation_deg: clockwise rotation of the content about the center
        output_size: (width, height) of the crop, each at least 2

    Returns:
        (2, 3), for points as columns (x, y, 1) and for ``cv2.warpAffine``
    """
    center_point, box_size = np.asarray(center, dtype=np.float64), np.asarray(size, dtype=np.float64)
    cosine, sine = math.cos(math.radians(rotation_deg)), math.sin(math.radians(rotation_deg))
    scale = (np.asarray(output_size) - 1) / box_size
    turn = np.array([[cosine, -sine], [sine, cosine]])
    matrix = np.empty((2, 3))
    matrix[:, :2] = scale[:, None] * turn
    matrix[:, 2] = scale * (box_size / 2 - turn @ center_point)
    return matrix


def to_crop(points: ArrayLike, matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """Map points of the image into the crop.

    Args:
        points: (..., 2) x and y
        matrix: (2, 3)

    Returns:
        (..., 2) float32
    """
    return (np.asarray(points, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def from_crop(
    points: ArrayLike, center: ArrayLike, size: ArrayLike, output_size: tuple[int, int]
) -> NDArray[np.float32]:
    """Map points of an upright crop back into the image; the inverse of `udp_matrix` at 0 degrees.

    Args:
        points: (..., 2) x and y in pixels of the crop
        center: (2,) or, for a batch, broadcastable to ``points``: x and y of the box in the image
        size: like ``center``: width and height of the box in the image
        output_size: (width, height) of the crop, each at least 2

    Returns:
        (..., 2) float32, in pixels of the image
    """
    scale = np.asarray(size, dtype=np.float64) / (np.asarray(output_size) - 1)
    corner = np.asarray(center, dtype=np.float64) - np.asarray(size, dtype=np.float64) / 2
    moved: NDArray[np.float64] = np.asarray(points, dtype=np.float64) * scale + corner
    return moved.astype(np.float32)
