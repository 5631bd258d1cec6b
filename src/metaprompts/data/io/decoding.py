"""Decode images of any mode as 8-bit RGB, without applying the EXIF orientation."""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from metaprompts.data.io.open_image import CheckSize, keep_stored_values, load_image, netpbm_maximum, read_with_opencv
from metaprompts.errors import InputError, one_line
from metaprompts.utils.batches import row_bands

ExifRule = Literal["check", "apply", "ignore"]
"""How to apply the EXIF orientation of images with labels; see `metaprompts.data.io.orientation`."""

_logger = logging.getLogger(__name__)

_ORIENTATION_TAG = 0x0112
_UPRIGHT = 1
_LARGEST = 65535
# The white level of a 14-bit camera; a 16-bit image whose values are all below this is dark, or has fewer bits.
_DARK = 16383
# Float images whose values are all below this fraction of white are nearly black.
_DIM = 1 / 16
_OPTIONS = "(--white-level, data.white_level)"
_WHITE_LEVELS = (255, 1023, 4095, 16383)


@dataclass(frozen=True, kw_only=True)
class ImageReading:
    """Settings for reading image files.

    Attributes:
        exif: how to treat the EXIF orientation of images with labels
        white_level: value of white in images with more than 8 bits; None for 65535, or for 1 or 255 in float images
    """

    exif: ExifRule = "check"
    white_level: int | None = None


class ReadsImages:
    """A data set that reads image files.

    Attributes:
        reading: how image files are read
    """

    reading: ImageReading = ImageReading()


@dataclass(frozen=True, eq=False)
class StoredImage:
    """An image as stored in its file.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, orientation not applied
        orientation: EXIF orientation, 1 to 8; 1 is upright
    """

    pixels: NDArray[np.uint8]
    orientation: int

    def upright(self) -> NDArray[np.uint8]:
        """(H, W, 3) the pixels with the orientation applied."""
        return turned(self.pixels, self.orientation)


def decode(
    path: Path, *, white_level: int | None = None, kind: str = "image", check_size: CheckSize | None = None
) -> StoredImage:
    """Read an image file.

    Args:
        path: path of the file
        white_level: see `ImageReading`
        kind: expected kind of file, for errors
        check_size: checks width and height before decoding, instead of Pillow's limit

    Raises:
        InputError: the file is missing, a folder, empty, not an image, too large, or truncated; or the white level is
            invalid
    """
    check_white_level(white_level)
    is_deep_color, maximum = False, None

    def inspect(image: Image.Image) -> None:
        nonlocal is_deep_color, maximum
        is_deep_color, maximum = _is_deep_color(image), netpbm_maximum(image)
        if _is_deep_gray(image):
            keep_stored_values(image)

    image = load_image(
        path,
        kind=kind,
        check_size=check_size,
        inspect=inspect,
        further_frames=lambda sentence: _warn_once(sentence, f"{sentence}: only the first is read"),
    )
    orientation = exif_orientation(image)
    if is_deep_color and white_level is not None:
        # Pillow keeps only the upper 8 bits of these.
        image = _deep_color(path, kind, white_level)
    has_maximum = maximum not in (None, _LARGEST)
    pixels = to_rgb(
        image, f"{kind} {path}", white_level=maximum if white_level is None and has_maximum else white_level
    )
    if is_deep_color and white_level is None and not has_maximum:
        _advise(int(pixels.max()) * 257, white_level, f"{kind} {path}")
    return StoredImage(pixels, orientation)


def check_white_level(white_level: int | None) -> None:
    """Check a white level.

    Raises:
        InputError: the white level is not within 1 to 65535
    """
    if white_level is not None and not 1 <= white_level <= _LARGEST:
        raise InputError(f"the white level is {white_level}; expected 1 to {_LARGEST}, such as 4095 for 12 bits")


def to_rgb(image: Image.Image, name: str, *, white_level: int | None = None) -> NDArray[np.uint8]:
    """Convert a decoded image of any mode to RGB.

    Args:
        image: as stored; decoded if it is lazy
        name: the image's name, for errors
        white_level: see `ImageReading`

    Returns:
        (H, W, 3) uint8

    Raises:
        InputError: the image has no pixels or cannot be converted
    """
    width, height = image.size
    if width == 0 or height == 0:
        raise InputError(f"{name} is {width}x{height}; expected at least one pixel")
    try:
        image.load()
        pixels = np.empty((height, width, 3), np.uint8)
        if _is_deep_gray(image):
            _fill_from_gray(pixels, image, name, white_level)
        else:
            for rows, band in _bands(image):
                pixels[rows] = _eight_bits(band)
        return pixels
    # A lazy PIL image is decoded only here.
    except Exception as error:
        raise InputError(f"{name} of mode {image.mode} cannot be converted to RGB ({one_line(error)})") from error


def exif_orientation(image: Image.Image) -> int:
    """The EXIF orientation of an image, 1 to 8; 1 (upright) if it has none."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # the image is good, only its EXIF data is not
        return _UPRIGHT
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else _UPRIGHT


def turned(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rotate and mirror an array (H, W, ...) according to an EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def _bands(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """An image in bands of rows, from top to bottom."""
    for rows in row_bands(image.height, image.width):
        yield rows, image.crop((0, rows.start, image.width, rows.stop))


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    if image.has_transparency_data:
        transparent = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", transparent.size, "white"), transparent)
    return np.asarray(image.convert("RGB"))


def _is_deep_gray(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _is_deep_color(image: Image.Image) -> bool:
    """Whether an undecoded image has several 16-bit channels."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    arguments = tiles[0][3] if tiles else None
    layout = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    is_deep = isinstance(layout, str) and ";16" in layout
    return not _is_deep_gray(image) and (is_deep or (netpbm_maximum(image) or 0) > 255)


def _deep_color(path: Path, kind: str, white_level: int) -> Image.Image:
    values = read_with_opencv(path)
    if values is None or values.dtype != np.uint16 or values.ndim != 3 or values.shape[2] not in (3, 4):
        raise InputError(f"{kind} {path} has 16-bit channels that cannot be read: export it as RGB PNG or TIFF")
    _advise(int(values.max()), white_level, f"{kind} {path}")
    scaled = np.empty(values.shape, np.uint8)
    for row, stored in zip(scaled, values, strict=True):
        row[:] = _scaled(stored, white_level)
    order = [2, 1, 0, 3][: values.shape[2]]
    return Image.fromarray(scaled[..., order])


def _numbers(image: Image.Image) -> Iterator[tuple[slice, NDArray[Any]]]:
    for rows, band in _bands(image):
        yield rows, np.nan_to_num(np.asarray(band), nan=0.0)


def _fill_from_gray(pixels: NDArray[np.uint8], image: Image.Image, name: str, white_level: int | None) -> None:
    is_float = image.mode == "F"
    extremes = [(band.min(), band.max()) for _, band in _numbers(image)]
    smallest, largest = float(min(low for low, _ in extremes)), float(max(high for _, high in extremes))
    for rows, values in _numbers(image):
        if is_float and white_level is None:
            gray = _rounded(values * 255 if largest <= 1 else values)
        else:
            gray = _scaled(values, white_level)
        pixels[rows] = gray[:, :, None]
    _advise_of_range(smallest, largest, name, white_level, is_float=is_float)


def _scaled(values: NDArray[Any], white_level: int | None) -> NDArray[np.uint8]:
    white = _LARGEST if white_level is None else white_level
    return _rounded(values.clip(0, white) / (white / 255))


def _rounded(values: NDArray[Any]) -> NDArray[np.uint8]:
    rounded: NDArray[np.uint8] = np.rint(values.clip(0, 255)).astype(np.uint8)
    return rounded


# White levels and kinds that this process has already warned about.
_advised: set[int | str] = set()


def _advise_of_range(smallest: float, largest: float, name: str, white_level: int | None, *, is_float: bool) -> None:
    """Warn, once for each kind of problem, if single-channel values exceed the range from black to white."""
    if smallest < 0:
        _warn_once("negative", f"{name} has values from {smallest:g} to {largest:g}: those below 0 become black")
    if white_level is None and is_float:
        _advise_of_floats(largest, name)
    elif white_level is None and largest > _LARGEST:
        _warn_once(
            "large",
            f"{name} has values up to {largest:.0f}, and all values beyond {_LARGEST} become white: scale it to 0 to "
            f"{_LARGEST}, or set a lower white level {_OPTIONS}",
        )
    else:
        _advise(int(largest), white_level, name)


def _advise_of_floats(largest: float, name: str) -> None:
    """Warn once that float values are outside both 0 to 1 and 0 to 255."""
    what = f"{name} has floats up to {largest:g}; expected 0 to 1 or 0 to 255"
    if largest > 255:
        white = next((level for level in (*_WHITE_LEVELS, _LARGEST) if largest <= level), None)
        advice = f"set the white level {_OPTIONS}, such as {white}, the next full bit depth, or {math.ceil(largest)}"
        if white is None:
            advice = f"scale it, or set the white level {_OPTIONS}, at most {_LARGEST}"
        _warn_once("bright floats", f"{what}, and larger values become white: {advice}")
    elif 1 < largest <= _DIM * 255:
        advice = f"set the white level to {math.ceil(largest)} {_OPTIONS}"
        _warn_once("dim floats", f"{what}, so it is nearly black: {advice}")
    elif 0 < largest <= _DIM:
        _warn_once("dark floats", f"{what}, so it is nearly black: scale it, because --white-level must be at least 1")


def _advise(largest: int, white_level: int | None, name: str) -> None:
    """Warn once that setting a white level would help, or that the white level is too low."""
    if white_level is None and 0 < largest <= _DARK:
        white = next(level for level in _WHITE_LEVELS if largest <= level)
        advice = f"set the white level to {white} {_OPTIONS} if it has {white.bit_length()} bits"
        _warn_once(0, f"{name} has 16 bits, but no value above {largest}, so it is nearly black: {advice}")
    elif white_level is not None and largest > white_level:
        _warn_once(
            white_level,
            f"{name} has values up to {largest}, beyond the white level of {white_level}: these become white",
        )


def _warn_once(key: int | str, message: str) -> None:
    if key not in _advised:
        _advised.add(key)
        _logger.warning("%s", message)
