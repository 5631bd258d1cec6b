"""Convert a scene's arrays to the pixels of files."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metaprompts.synthetic import CLASSES, Scene
from metaprompts.utils.files import write_image

_JPEG_QUALITY = 95


def save_image(path: Path, pixels: NDArray[Any] | Image.Image) -> None:
    """Write an image atomically, as JPEG or PNG depending on its suffix.

    Args:
        path: the output file; missing folders are created
        pixels: (H, W), (H, W, 3) or (H, W, 4) uint8, (H, W) uint16, or an image
    """
    # PNG has no quality setting and ignores it.
    write_image(path, pixels, quality=_JPEG_QUALITY)


def class_ids(ids: Mapping[str, int], *, void: int) -> NDArray[np.uint8]:
    """(17,), the data set's id for each scene class; ``void`` for classes that the data set lacks."""
    return np.array([ids.get(name, void) for name in CLASSES], dtype=np.uint8)


def stored_depth(depth_m: NDArray[np.float32], *, depth_scale: int, reach_m: float) -> NDArray[np.uint16]:
    """Depth as stored in 16-bit files.

    Args:
        depth_m: (H, W) meters, 0 where there is no depth
        depth_scale: 1000 for millimeters
        reach_m: maximum depth that is measured

    Returns:
        (H, W), 0 where nothing is measured
    """
    units = np.floor(depth_m.astype(np.float64) * depth_scale + 0.5)
    return np.where(depth_m <= reach_m, units, 0).astype(np.uint16)


def instance_numbers(scene: Scene, counted: Collection[str]) -> NDArray[np.int32]:
    """Number the things of each class.

    Args:
        scene: the scene that shows the things
        counted: classes whose things are numbered, from 0 in each class

    Returns:
        (H, W), 0 for all other classes
    """
    numbers = np.zeros(scene.things.shape, dtype=np.int32)
    for name in counted:
        mask = scene.labels == CLASSES.index(name)
        numbers[mask] = np.unique(scene.things[mask], return_inverse=True)[1]
    return numbers
