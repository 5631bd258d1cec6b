"""Label files as stored: class indices and depth."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metaprompts.data.opening import load_image, one_line
from metaprompts.errors import InputError

LABEL_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".bmp", ".gif", ".pgm"})
"""Endings of files that can hold class indices."""

DEPTH_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".pgm", ".npy"})
"""Endings of files that can hold depth."""

_COLOR_MODES = ("RGB", "RGBA", "P", "PA", "L", "LA", "1")
_MILLIMETERS = 1000


def read_index_mask(path: Path) -> NDArray[np.uint8] | NDArray[np.int32]:
    """Read a mask of class indices.

    The values are the stored ones: of a palette file the indices, not the colors.

    Args:
        path: a 1-bit, palette, 8-bit or 16-bit gray file; any lossless format

    Returns:
        (H, W) uint8, or int32 for 16-bit files

    Raises:
        InputError: the file is no image, holds colors, or its format is lossy
    """
    image = load_image(path, kind="label file")
    _check_lossless(image, path)
    if image.mode in ("L", "P", "1"):
        return np.array(image, dtype=np.uint8)
    if image.mode == "I" or image.mode.startswith("I;16"):
        return np.array(image).astype(np.int32)
    raise InputError(
        f"label file {path} is {image.mode} {image.height}x{image.width}; expected one channel: "
        "store class indices as 8-bit gray or palette PNG, or say what its colors stand for, "
        "--data.label_map 0,0,0=CLASS,255,0,0=CLASS"
    )


def read_color_mask(path: Path) -> NDArray[np.int32]:
    """Read a mask whose colors stand for classes.

    Args:
        path: an RGB, palette or 8-bit gray file; any lossless format. Transparency is left out.

    Returns:
        (H, W) int32, red x 65536 + green x 256 + blue

    Raises:
        InputError: the file is no image, has no such colors, or its format is lossy
    """
    image = load_image(path, kind="label file")
    _check_lossless(image, path)
    if image.mode not in _COLOR_MODES:
        raise InputError(
            f"label file {path} is {image.mode} {image.height}x{image.width}, but data.label_map names colors: store "
            "RGB or palette PNG, or map values"
        )
    red, green, blue = np.moveaxis(np.array(image.convert("RGB"), dtype=np.int32), -1, 0)
    packed: NDArray[np.int32] = red << 16 | green << 8 | blue
    return packed


def _check_lossless(image: Image.Image, path: Path) -> None:
    if image.format == "JPEG":
        raise InputError(f"label file {path} is a JPEG, which alters class indices and colors: store them as PNG")


def read_depth_m(path: Path, *, units_per_meter: float) -> NDArray[np.float32]:
    """Read depth in meters.

    Args:
        path: 16-bit gray PNG (or TIFF, PGM), or ``.npy`` of float meters, in which NaN and infinity mean "none"
        units_per_meter: what a stored integer is divided by: 1000 for millimeters, 256 for KITTI; not for ``.npy``

    Returns:
        (H, W) float32 meters, 0 = no measurement

    Raises:
        InputError: not 16-bit, not one channel, negative values, or units_per_meter is not above 0
    """
    if not units_per_meter > 0:
        raise InputError(f"units_per_meter is {units_per_meter}; expected above 0, such as 1000 for millimeters")
    if path.suffix.lower() == ".npy":
        return _read_array(path)
    image = load_image(path, kind="depth file")
    if image.mode != "I" and not image.mode.startswith("I;16"):
        raise InputError(
            f"depth file {path} is {_describe(image.mode)} {image.height}x{image.width}; expected 16-bit gray: "
            f"re-export it as 16-bit PNG in {_unit(units_per_meter)}, or as .npy in meters"
        )
    stored = np.array(image)
    _refuse_negative(stored, path)
    return stored.astype(np.float32) / np.float32(units_per_meter)


def _unit(units_per_meter: float) -> str:
    return "millimeters" if units_per_meter == _MILLIMETERS else f"meters x {units_per_meter:g}"


def _describe(mode: str) -> str:
    return {"L": "8-bit gray", "P": "palette", "1": "1-bit", "F": "float"}.get(mode, mode)


def _read_array(path: Path) -> NDArray[np.float32]:
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise InputError(f"depth file {path} cannot be read: {error.strerror or one_line(error)}") from error
    except (ValueError, EOFError) as error:
        raise InputError(f"depth file {path} is no .npy array ({one_line(error)}): write it with numpy.save") from error
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"depth file {path} is {array.dtype} {array.shape}; expected float (H, W) in meters")
    measured = np.nan_to_num(array.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    _refuse_negative(measured, path)
    return measured


def _refuse_negative(values: NDArray[Any], path: Path) -> None:
    if values.size and values.min() < 0:
        raise InputError(f"depth file {path} holds negative values down to {values.min()}; mark missing depth with 0")
