"""Read images of any kind as RGB arrays, and list the images that a user gives."""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metaprompts.data.io.decoding import decode, exif_orientation, to_rgb, turned
from metaprompts.data.io.file_search import find_files, is_true, warn_of_passed_over, without_results
from metaprompts.data.io.open_image import CheckSize
from metaprompts.errors import InputError

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jxl"}
    | {".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"}
)
"""Lower-case extensions of images in folders."""


def read_image(path: Path, *, white_level: int | None = None, check_size: CheckSize | None = None) -> NDArray[np.uint8]:
    """Read any image that Pillow opens.

    The EXIF orientation is applied. Transparent pixels are composited over white. 16-bit gray is divided by 257, so
    65535 becomes 255. Float images are read as 0..1 if no value exceeds 1, else as 0..255. If there are several frames,
    the first is read.

    Args:
        path: path of the file
        white_level: value of white in images with more than 8 bits; None for 65535, or for 1 or 255 in float images
        check_size: checks width and height before decoding, instead of Pillow's limit

    Returns:
        (H, W, 3) uint8 RGB

    Raises:
        InputError: the file is missing, a folder, empty, not an image, too large, or truncated; the message is one line
            that names the file
    """
    if is_true(path.is_dir):
        holds = "give its files" if images_in(path) else "it holds no images"
        raise InputError(f"image {path} is a folder: {holds}")
    if _is_pattern(str(path)) and not is_true(path.exists):
        raise InputError(f"no image matches {path}: check the pattern")
    return decode(path, white_level=white_level, check_size=check_size).upright()


def as_image(value: str | Path | Image.Image | NDArray[Any]) -> NDArray[np.uint8]:
    """Convert a path, a PIL image or an array to an RGB array.

    Args:
        value: a file's path, a PIL image of any mode, a uint8 array (H, W, 3) RGB or (H, W) gray

    Returns:
        (H, W, 3) uint8 RGB; a contiguous RGB array is returned without a copy

    Raises:
        InputError: the value has another type, or its file cannot be read
    """
    if isinstance(value, str | Path):
        return read_image(Path(value))
    if isinstance(value, Image.Image):
        return turned(to_rgb(value, "the PIL image"), exif_orientation(value))
    if isinstance(value, np.ndarray):
        return _array_to_rgb(value)
    raise InputError(
        f"an image has type {type(value).__name__}; expected a path, a PIL image or a uint8 array (H, W, 3)"
    )


def list_images(
    inputs: Sequence[str], *, out: Path | None = None, suffixes: Iterable[str] = IMAGE_SUFFIXES
) -> list[Path]:
    """Expand files, folders and patterns to images.

    Files are accepted with any extension. Folders are searched recursively, following links, and patterns (``*``,
    ``?``, ``[]``, ``**``) are expanded; both yield only files with an extension in ``suffixes``, sorted, without
    hidden files; the number of skipped files is logged. Inputs without a match stay in the list unchanged, so
    `read_image` reports the reason while the others continue.

    Args:
        inputs: paths and patterns as given by the user
        out: output folder, whose files are excluded; files named like a result of another input are excluded as well
        suffixes: extensions to find, in lower case with the dot

    Returns:
        the paths in the order of the inputs, without duplicates

    Raises:
        InputError: an input is an empty string, or a folder cannot be read
    """
    found: dict[str, Path] = {}
    for text in inputs:
        if not text:
            raise InputError("an input is an empty string: give an image, a folder or a pattern")
        for path in _expand(text, out, frozenset(suffixes)):
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def searched_folder(text: str) -> Path:
    """The folder that `list_images` searches: a folder itself, a pattern's fixed part, or a file's parent."""
    path = Path(text)
    if is_true(path.is_dir):
        return path
    return path.parent if is_true(path.exists) or not _is_pattern(text) else _fixed_part(path)


def images_in(folder: Path, suffixes: Iterable[str] = IMAGE_SUFFIXES, *, warn: bool = False) -> list[Path]:
    """List the files of a folder recursively, following links, sorted, without hidden files.

    Args:
        folder: the folder to search
        suffixes: extensions to keep, in lower case with the dot
        warn: whether to log the number of files with other extensions

    Raises:
        InputError: a folder cannot be read, or a link is broken
    """
    files, passed_over = find_files(folder, suffixes)
    if warn:
        warn_of_passed_over(passed_over, str(folder))
    for path in files:
        if not path.is_file():
            raise InputError(f"link {path} points to nothing: fix or remove it")
    return files


def _expand(text: str, out: Path | None, suffixes: frozenset[str]) -> list[Path]:
    path = Path(text)
    if is_true(path.is_dir):
        return _searched([path], text, out, suffixes) or [path]
    # A file name may contain brackets: an existing path is not a pattern.
    if is_true(path.exists) or not _is_pattern(text):
        return [path]
    # Path.glob does not accept absolute patterns.
    matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207
    if out is not None and os.path.realpath(_fixed_part(path)) != os.path.realpath(out):
        matches = [
            match for match in matches if not Path(os.path.realpath(match)).is_relative_to(os.path.realpath(out))
        ]
    return _searched(matches, text, out, suffixes) or [path]


def _fixed_part(pattern: Path) -> Path:
    """The longest leading folder of a pattern without wildcards."""
    return Path(*takewhile(lambda part: not _is_pattern(part), pattern.parts))


def _searched(places: Sequence[Path], text: str, out: Path | None, suffixes: frozenset[str]) -> list[Path]:
    """The images among files and in folders."""
    real_out = None if out is None else os.path.realpath(out)
    images, passed_over = [], Counter[str]()
    for place in places:
        if is_true(place.is_dir):
            # An explicitly given folder is searched, even if it is the output folder.
            without = [out] if out is not None and os.path.realpath(place) != real_out else []
            found, others = find_files(place, suffixes, without=without)
            images += found
            passed_over += others
        elif place.suffix.lower() in suffixes:
            images.append(place)
        else:
            passed_over[place.suffix.lower()] += 1
    warn_of_passed_over(passed_over, text)
    return images if real_out is None else without_results(images, text)


def _is_pattern(text: str) -> bool:
    return any(sign in text for sign in "*?[")


def _array_to_rgb(array: NDArray[Any]) -> NDArray[np.uint8]:
    is_gray = array.ndim == 2
    is_color = array.ndim == 3 and array.shape[2] == 3
    if array.dtype != np.uint8 or not (is_gray or is_color) or array.size == 0:
        raise InputError(
            f"an image is a {array.dtype} array {array.shape}; expected uint8 (H, W, 3) RGB with values 0 to 255"
        )
    return np.ascontiguousarray(array) if is_color else np.repeat(array[:, :, None], 3, axis=2)
