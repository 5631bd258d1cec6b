"""Read .npy and .npz files, and check them before allocating memory: a header of a few bytes can claim any size."""

import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.io.open_image import check_regular_file, naming_failure
from metaprompts.errors import InputError

_NPZ_NAMES = ("depth", "depth_m", "arr_0")
# Limit for compressed files: a megabyte can claim to contain a gigabyte.
_MOST_PIXELS = 2**26
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_npy(path: Path, *, kind: str, channels: int | None = None) -> NDArray[Any]:
    """Read an array with one or more numbers per pixel.

    Args:
        path: the .npy file
        kind: the expected kind of file, which begins the error ("depth file", ...)
        channels: numbers per pixel; None for one number without a channel axis

    Returns:
        (H, W) or (H, W, channels) integers or floats

    Raises:
        InputError: the file is missing or broken, or the array is too large for its file or has the wrong shape
    """
    check_regular_file(path, kind)
    name = f"{kind} {path}"
    # NumPy's header parser raises errors of any type.
    with naming_failure(f"{name} is not an .npy array", "write it with numpy.save"), path.open("rb") as file:
        return _read_array(file, path.stat().st_size, name, channels)


def read_npz(path: Path) -> NDArray[Any]:
    """Read the only array of a .npz file, or, if there are several, the array named depth, depth_m or arr_0.

    Args:
        path: the .npz file

    Returns:
        (H, W) integers or floats

    Raises:
        InputError: as for `read_npy`, or the file has several arrays, none of them with such a name
    """
    check_regular_file(path, "depth file")
    name = f"depth file {path}"
    with naming_failure(f"{name} is not an .npz file", "write it with numpy.savez"), zipfile.ZipFile(path) as archive:
        member = _member(archive, name)
        if member.compress_type not in _METHODS or member.flag_bits & 1:
            raise InputError(f"{name} is encrypted, or not compressed by numpy.savez_compressed")
        with archive.open(member) as file:
            return _read_array(file, member.file_size, f"{name}, array {Path(member.filename).stem!r},")


def _member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    members = {each.filename.removesuffix(".npy"): each for each in archive.infolist()}
    if len(members) == 1:
        return next(iter(members.values()))
    for known in _NPZ_NAMES:
        if known in members:
            return members[known]
    held = ", ".join(repr(each) for each in list(members)[:5]) or "nothing"
    raise InputError(f"{name} holds {held}; expected a single array, or one named {' or '.join(_NPZ_NAMES)}")


def _read_array(file: IO[bytes], size: int, name: str, channels: int | None = None) -> NDArray[Any]:
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(
        version
    )
    if read_header is None:
        raise ValueError(f"version {version} of the format, not 1.0 or 2.0")
    shape, is_fortran, dtype = read_header(file)
    behind = () if channels is None else (channels,)
    if len(shape) != 2 + len(behind) or shape[2:] != behind or dtype.kind not in "iuf" or min(shape) < 1:
        wanted = "one number per pixel, (H, W)" if channels is None else f"{channels} per pixel, (H, W, {channels})"
        raise InputError(f"{name} is {dtype} {shape}; expected {wanted}")
    height, width = shape[:2]
    expected, left = height * width * (channels or 1) * dtype.itemsize, size - file.tell()
    if expected != left:
        raise ValueError(f"{left} bytes of data; expected {expected} for {dtype} {height}x{width}")
    if isinstance(file, zipfile.ZipExtFile) and height * width > _MOST_PIXELS:
        raise InputError(f"{name} is {height}x{width}; expected at most {_MOST_PIXELS} pixels")
    content = file.read(expected)
    if len(content) != expected:
        raise ValueError("it is truncated")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")
