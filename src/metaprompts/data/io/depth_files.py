"""Read depth maps: integers in PNG, TIFF or PGM, floats in TIFF, PFM or EXR, either in .npy or .npz."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from metaprompts.data.io.numpy_files import read_npy, read_npz
from metaprompts.data.io.open_image import (
    check_pixels,
    check_regular_file,
    keep_stored_values,
    load_image,
    load_library,
    naming_failure,
    read_with_opencv,
)
from metaprompts.errors import InputError

DepthKind = Literal["depth", "inverse", "disparity"]

DEPTH_FORMATS = "16-bit PNG, TIFF or PGM, float TIFF, PFM or EXR, .npy or .npz"

SMALLEST_SCALE, LARGEST_SCALE = 1e-6, 1e9
"""Allowed range of the divisor of stored numbers."""

_MILLIMETERS = 1000.0
_MODES = {"L": "8-bit gray", "P": "palette", "1": "1-bit"}
_FLOAT = 3
_EXR_CHANNELS = ("z", "y", "v", "depth", "d")


@dataclass(frozen=True, kw_only=True)
class DepthEncoding:
    """The encoding of depth files. 0, NaN and infinity mean "no measurement" in all of them.

    Attributes:
        depth_scale: divisor of stored numbers, integers and floats; None means 1000 for integer depth (millimeters),
            and 1 for floats
        kind: meaning of the divided numbers: "depth" in meters, "inverse" depth in 1/m, or "disparity" in pixels
        focal_baseline: for disparity: focal length in pixels times baseline in meters

    Raises:
        InputError: depth_scale is out of its range, or focal_baseline is missing or does not apply
    """

    depth_scale: float | None = None
    kind: DepthKind = "depth"
    focal_baseline: float | None = None

    def __post_init__(self) -> None:
        if self.depth_scale is not None and not SMALLEST_SCALE <= self.depth_scale <= LARGEST_SCALE:
            raise InputError(
                f"depth_scale is {self.depth_scale}; expected {SMALLEST_SCALE:g} to {LARGEST_SCALE:g}, such as 1000 "
                "for millimeters"
            )
        if self.kind == "disparity" and not (self.focal_baseline or 0) > 0:
            raise InputError(
                f"depth_kind is disparity, but focal_baseline is {self.focal_baseline}; expected more than 0, the "
                "focal length in pixels times the baseline in meters"
            )
        if self.kind != "disparity" and self.focal_baseline is not None:
            raise InputError(
                f"focal_baseline is {self.focal_baseline}, but depth_kind is {self.kind}; expected disparity"
            )

    def meters(self, stored: NDArray[Any], path: Path) -> NDArray[np.float32]:
        """Convert stored numbers to depth.

        Args:
            stored: (H, W) integers or floats
            path: path of the file, for the error

        Returns:
            (H, W) float32 meters, 0 = no measurement

        Raises:
            InputError: there are negative numbers, or integers without units for inverse depth, disparity or 8 bits
        """
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.nan_to_num(stored.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        if values.size and values.min() < 0:
            raise InputError(
                f"depth file {path} holds negative values down to {values.min()}; mark missing depth with 0"
            )
        units = self._units(stored.dtype, path)
        if units is not None:
            with np.errstate(over="ignore"):
                values /= np.float32(units)
            # Infinite depth marks sky elsewhere; here it means no measurement.
            values[~np.isfinite(values)] = 0
        if self.kind == "depth":
            return values
        with np.errstate(over="ignore", divide="ignore"):
            meters = np.float32(self.focal_baseline or 1.0) / values
        # Values beyond the largest float32, or at disparity 0, are infinitely far: not measured.
        meters[~np.isfinite(meters)] = 0
        return meters

    def unit(self) -> str:
        """The unit of stored integers, for errors."""
        unit = {"depth": "meters", "inverse": "1/m", "disparity": "pixels of disparity"}[self.kind]
        if self.kind == "depth" and self.depth_scale in (None, _MILLIMETERS):
            return "millimeters"
        return f"{unit} x {self.depth_scale:g}" if self.depth_scale is not None else unit

    def _units(self, dtype: np.dtype[Any], path: Path) -> float | None:
        if self.depth_scale is not None or not np.issubdtype(dtype, np.integer):
            return self.depth_scale
        if self.kind != "depth":
            raise InputError(
                f"depth file {path} holds integers of {self.kind}: set data.depth_scale, the divisor that gives meters"
            )
        # 8-bit millimeters reach only 0.255 m, so 8-bit files have other units or are visualizations.
        if dtype.itemsize == 1:
            raise InputError(
                f"depth file {path} is {dtype}; expected 16-bit integers of {self.unit()} or floats in meters: save "
                "it in one of these formats, or set data.depth_scale, the divisor of its values"
            )
        return _MILLIMETERS


def read_depth_m(path: Path, encoding: DepthEncoding) -> NDArray[np.float32]:
    """Read depth in meters.

    Args:
        path: a file of one of the `DEPTH_FORMATS`
        encoding: the encoding of its numbers

    Returns:
        (H, W) float32 meters, 0 = no measurement

    Raises:
        InputError: the format is unknown, there is not exactly one number per pixel, or values are negative
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        stored = read_npy(path, kind="depth file")
    elif suffix == ".npz":
        stored = read_npz(path)
    elif suffix == ".exr":
        stored = _read_exr(path)
    else:
        stored = _read_image(path, encoding)
    return encoding.meters(stored, path)


def _read_image(path: Path, encoding: DepthEncoding) -> NDArray[Any]:
    check_regular_file(path, "depth file")
    bits, channels = _float_layout(path) or (32, 1)
    if channels != 1:
        raise InputError(f"depth file {path} has {channels} floats per pixel; expected one: save a single channel")
    if bits != 32:
        return _read_other_floats(path, bits)
    # Depth with 8 bits or fewer is an error: it has no useful unit.
    image = load_image(path, kind="depth file", expected=DEPTH_FORMATS, inspect=keep_stored_values)
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        raise InputError(
            f"depth file {path} is {_MODES.get(image.mode, image.mode)} {image.height}x{image.width}; expected 16-bit "
            f"gray: re-export it as 16-bit PNG in {encoding.unit()}, or with floats as TIFF, PFM, EXR, .npy or .npz"
        )
    return np.asarray(image)


def _float_layout(path: Path) -> tuple[int, int] | None:
    """Bits per float and floats per pixel of a TIFF or PFM; None for other files.

    Pillow reads only single 32-bit floats.
    """
    try:
        with path.open("rb") as file:
            head = file.read(8)
            if head.startswith(b"PF"):
                return 32, 3
            directory = TiffImagePlugin.ImageFileDirectory_v2(head)
            file.seek(directory.next)
            directory.load(file)
            is_float = _first(directory.get(TiffImagePlugin.SAMPLEFORMAT)) == _FLOAT
            bits, channels = (
                directory.get(tag, 1) for tag in (TiffImagePlugin.BITSPERSAMPLE, TiffImagePlugin.SAMPLESPERPIXEL)
            )
            return (_first(bits), _first(channels)) if is_float else None
    # Not a TIFF, or a broken one: reading the image reports the error.
    except Exception:
        return None


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


def _read_other_floats(path: Path, bits: int) -> NDArray[Any]:
    # OpenCV rejects images with more than 2**30 pixels before allocating memory.
    values = read_with_opencv(path) if bits == 64 else None
    if values is None or values.ndim != 2:
        raise InputError(
            f"depth file {path} is a TIFF of {bits}-bit floats that cannot be read; expected 32 or 64 bits, one float "
            "per pixel: export it again"
        )
    return values


def _read_exr(path: Path) -> NDArray[Any]:
    check_regular_file(path, "depth file")
    library = load_library("OpenEXR", f"depth file {path}", "exr")
    with naming_failure(f"depth file {path} is not an EXR image", "export it again"):
        # Check the header first: a file of a few bytes can claim any size.
        first, last = library.File(str(path), header_only=True).header()["dataWindow"]
        width, height = (int(side) for side in last.astype(np.int64) - first + 1)
        check_pixels(width, height, f"depth file {path}")
        with library.File(str(path), separate_channels=True) as file:
            channels = {name: np.array(channel.pixels) for name, channel in file.channels().items()}
    return _exr_channel(channels, path)


def _exr_channel(channels: Mapping[str, NDArray[Any]], path: Path) -> NDArray[Any]:
    """The channel that holds depth: the only one, one named Z or similar, or red if all colors are equal."""
    for needed in _EXR_CHANNELS:
        for name, values in channels.items():
            if name.rpartition(".")[2].lower() == needed:
                return values
    first, *others = channels.values()
    if all(np.array_equal(first, other, equal_nan=True) for other in others):
        return first
    raise InputError(f"depth file {path} has the channels {', '.join(channels)}; expected one, or one called Z")
