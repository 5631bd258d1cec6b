"""Read label files, with class indices returned as stored."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metaprompts.data.io.open_image import keep_stored_values, load_image
from metaprompts.errors import InputError

LABEL_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".bmp", ".gif", ".pgm"})
"""Extensions of files that can hold class indices."""

DEPTH_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".pgm", ".pfm", ".exr", ".npy", ".npz"})
"""Extensions of files that can hold depth."""

_EXPECTED = "a PNG, TIFF, BMP, GIF or PGM file"
_COLOR_MODES = ("RGB", "RGBA", "P", "PA", "L", "LA", "1")

# Formats that are lossy, or may be.
_LOSSY = {
    "JPEG": "a JPEG",
    "MPO": "a JPEG",
    "JPEG2000": "a JPEG 2000",
    "AVIF": "an AVIF",
    "HEIF": "a HEIC",
    "JXL": "a JPEG XL",
    "DDS": "a DDS texture",
}


def read_index_mask(path: Path) -> NDArray[np.uint8] | NDArray[np.int32]:
    """Read a mask of class indices.

    Values are returned as stored: for a palette image the indices, not the colors.

    Args:
        path: a palette image, or grayscale with 1 to 16 bits per pixel, in any lossless format

    Returns:
        (H, W) uint8, or int32 for 16-bit files

    Raises:
        InputError: the file is not an image, contains colors, or has a lossy format
    """
    factors: list[int] = []
    image = load_image(
        path, kind="label file", expected=_EXPECTED, inspect=lambda image: factors.append(keep_stored_values(image))
    )
    _check_lossless(image, path)
    if image.mode in ("L", "P", "1"):
        return np.array(image, dtype=np.uint8) // np.uint8(factors[0])
    if image.mode == "I" or image.mode.startswith("I;16"):
        return np.array(image).astype(np.int32)
    raise InputError(
        f"label file {path} is {image.mode} {image.height}x{image.width}; expected one channel: "
        "store class indices as 8-bit gray or palette PNG, or map its colors with --data.label_map "
        "0,0,0=CLASS,255,0,0=CLASS"
    )


def read_color_mask(path: Path) -> NDArray[np.int32]:
    """Read a mask whose colors encode classes.

    Args:
        path: an RGB, palette or 8-bit grayscale image, in any lossless format. Transparency is ignored.

    Returns:
        (H, W) int32, red x 65536 + green x 256 + blue

    Raises:
        InputError: the file is not an image, is of another type, or has a lossy format
    """
    image = load_image(path, kind="label file", expected=_EXPECTED)
    _check_lossless(image, path)
    if image.mode not in _COLOR_MODES:
        raise InputError(
            f"label file {path} is {image.mode} {image.height}x{image.width}, but data.label_map maps colors: store "
            "RGB or palette PNG, or map values instead of colors"
        )
    red, green, blue = np.moveaxis(np.array(image.convert("RGB"), dtype=np.int32), -1, 0)
    packed: NDArray[np.int32] = red << 16 | green << 8 | blue
    return packed


def _check_lossless(image: Image.Image, path: Path) -> None:
    if (lossy := _lossy_format(image, path)) is not None:
        raise InputError(f"label file {path} is {lossy}, which alters class indices and colors: store them as PNG")


def _lossy_format(image: Image.Image, path: Path) -> str | None:
    """The storage format of an image if it is, or may be, lossy; None if it is lossless."""
    if image.format == "TIFF":
        # Pillow's names: "jpeg", "tiff_jpeg" (the older kind) and "webp".
        compression = str(image.info.get("compression"))
        return f"a {compression.upper()}-compressed TIFF" if compression.endswith(("jpeg", "webp")) else None
    if image.format == "WEBP":
        return None if _is_lossless_webp(path) else "a lossy WebP"
    return _LOSSY.get(image.format or "")


def _is_lossless_webp(path: Path) -> bool:
    content = path.read_bytes()
    place = 12
    while place + 8 <= len(content):
        chunk, size = content[place : place + 4], int.from_bytes(content[place + 4 : place + 8], "little")
        if chunk in (b"VP8 ", b"VP8L", b"ALPH", b"ANMF"):
            return chunk == b"VP8L"
        place += 8 + size + size % 2
    return False
