"""Read and write surface normals: RGB images of 8 or 16 bits, or .npy."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from metaprompts.data.io.numpy_files import read_npy
from metaprompts.data.io.open_image import check_regular_file, read_with_opencv
from metaprompts.errors import InputError
from metaprompts.utils.batches import row_bands
from metaprompts.utils.files import write_whole

# A normal has length 1. The gray that means "no surface" decodes to length 0; black or white decode to 1.7.
_SHORTEST, _LONGEST = 0.5, 1.5
_LARGEST = 65535
# The largest step between neighbors, as a fraction of the depth.
_LARGEST_STEP = 0.1


def read_normals(path: Path) -> NDArray[np.float32]:
    """Read surface normals.

    Args:
        path: an RGB image in which channel value 0 means -1 and the largest value 1, or .npy (H, W, 3) floats

    Returns:
        (H, W, 3) float32 of length 1, in the file's own axes; 0 where the length of the
        stored vector is far from 1, which means no surface

    Raises:
        InputError: the file is invalid, or does not have three numbers per pixel
    """
    if path.suffix.lower() == ".npy":
        vectors = read_npy(path, kind="normals file", channels=3).astype(np.float32)
    else:
        check_regular_file(path, "normals file")
        stored = read_with_opencv(path)
        if stored is None or stored.ndim != 3 or stored.shape[2] != 3 or stored.dtype not in (np.uint8, np.uint16):
            found = "no image" if stored is None else f"{stored.dtype} {stored.shape}"
            raise InputError(
                f"normals file {path} is {found}; expected an RGB image of 8 or 16 bits: save x, y and z as its "
                "channels, from -1 at 0 to 1 at the largest value, or as .npy"
            )
        vectors = stored[..., ::-1].astype(np.float32) * (2 / np.iinfo(stored.dtype).max) - 1
    return unit_vectors(vectors)


def unit_vectors(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors (H, W, 3) scaled to length 1; vectors that are not finite, or whose length is far from 1, become 0."""
    length = np.sqrt(np.square(vectors).sum(axis=2, keepdims=True))
    is_normal = (length > _SHORTEST) & (length < _LONGEST)
    found: NDArray[np.float32] = np.divide(vectors, length, out=np.zeros_like(vectors), where=is_normal)
    return found


def write_normals(path: Path, normals: NDArray[np.float32]) -> None:
    """Write normals (H, W, 3) as a 16-bit RGB PNG, atomically; 0 means no surface, and is written as gray."""
    with write_whole(path) as scratch:
        scratch.write_bytes(encode_normals(normals))


def encode_normals(normals: NDArray[np.float32]) -> bytes:
    """The file that `write_normals` writes."""
    stored = np.empty(normals.shape, np.uint16)
    for rows in row_bands(*normals.shape[:2]):
        stored[rows] = np.rint((normals[rows].astype(np.float64) + 1) * (_LARGEST / 2))
    return cv2.imencode(".png", stored[..., ::-1])[1].tobytes()


def normals_from_depth(depth_m: NDArray[np.float32], focal_px: float) -> NDArray[np.float32]:
    """Surface normals computed from depth, by differences over two pixels.

    Args:
        depth_m: (H, W) meters along the camera's axis, 0 = no measurement
        focal_px: focal length in pixels; the principal point is the image's center

    Returns:
        (H, W, 3) float32 unit vectors: right, up, toward the camera; 0 where a pixel or a neighbor is not measured, or
        where neighbors differ by more than a tenth in depth, as at the edge of an object
    """
    height, width = depth_m.shape
    z = np.where(depth_m > 0, depth_m, np.nan).astype(np.float64)
    across = (np.arange(width) - (width - 1) / 2) / focal_px
    above = ((height - 1) / 2 - np.arange(height)[:, None]) / focal_px
    points = np.stack([across * z, above * z, -z], axis=2)
    with np.errstate(invalid="ignore"):
        down, right = np.gradient(points, axis=(0, 1))
        vectors = np.cross(down, right)
        vectors /= np.sqrt(np.square(vectors).sum(axis=2, keepdims=True))
        is_edge = np.maximum(abs(down[..., 2]), abs(right[..., 2])) > _LARGEST_STEP * z
    is_known = (depth_m > 0) & ~is_edge & np.isfinite(vectors).all(axis=2)
    return np.where(is_known[..., None], vectors, 0).astype(np.float32)
