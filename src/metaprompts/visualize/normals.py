"""Surface normals as color: x is red, y green, z blue."""

import numpy as np
from numpy.typing import NDArray

from metaprompts.visualize.segmentation import class_legend
from metaprompts.visualize.text import ImageArray

DIRECTIONS = {"right": (1, 0, 0), "left": (-1, 0, 0), "up": (0, 1, 0), "down": (0, -1, 0), "the camera": (0, 0, 1)}
"""Directions in which surfaces face, as unit vectors."""


def color_normals(normals: NDArray[np.float32]) -> ImageArray:
    """Normals (H, W, 3) as RGB; 128 means 0, and no surface is (128, 128, 128)."""
    colors: ImageArray = np.rint((normals + 1) * 127.5).astype(np.uint8)
    return colors


def normals_legend(width: int, size_px: int | None = None) -> ImageArray:
    """The colors of surfaces that face each of the `DIRECTIONS`; arguments as for `class_legend`."""
    colors = color_normals(np.array(list(DIRECTIONS.values()), np.float32))
    return class_legend([f"faces {name}" for name in DIRECTIONS], colors, width, size_px=size_px)
