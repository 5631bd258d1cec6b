"""Read images with an EXIF orientation, whose labels may or may not be rotated accordingly.

Viewers and most annotation tools show such an image upright; other tools annotate the stored pixels. If the sizes do
not show which was done, training could silently use misaligned labels.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metaprompts.data.io.decoding import ImageReading, StoredImage, decode, exif_orientation, turned
from metaprompts.data.sample import check_same_size
from metaprompts.errors import InputError

_MEANING = {
    2: "mirrored",
    3: "rotated by 180 degrees",
    4: "mirrored top to bottom",
    5: "mirrored and rotated by 90 degrees",
    6: "rotated by 90 degrees",
    7: "mirrored and rotated by 90 degrees",
    8: "rotated by 90 degrees",
}
_SWAPS_SIDES = (5, 6, 7, 8)
_CHOICE = (
    "pass --data.exif apply if the labels were made on the upright image, --data.exif ignore if they were made on the "
    "stored pixels, or store images without orientation"
)


def read_pair(
    image_path: Path, label_path: Path, read_label: Callable[[Path], NDArray[Any]], reading: ImageReading
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Read an image and its labels in the same orientation.

    Args:
        image_path: path of the image
        label_path: path of its labels
        read_label: path -> (H, W) labels as stored
        reading: how to treat EXIF orientations

    Returns:
        (H, W, 3) uint8 RGB and (H, W) labels

    Raises:
        InputError: a file is invalid, sizes differ, or it is unknown whether the labels are rotated
    """
    image, labels = decode(image_path, white_level=reading.white_level), read_label(label_path)
    own = _orientation_of_file(label_path)
    if reading.exif == "apply" or image.orientation == own:
        pixels, labels = (image.pixels, labels) if reading.exif == "ignore" else (image.upright(), turned(labels, own))
    elif reading.exif == "ignore":
        pixels = image.pixels
    elif own != 1:
        raise InputError(
            f"{label_path} has the EXIF orientation {own} ({_MEANING[own]}), but {image_path} has "
            f"{image.orientation if image.orientation != 1 else 'none'}: store both without orientation, or pass "
            "--data.exif apply or ignore"
        )
    else:
        pixels = _fitting(image, labels.shape[:2], image_path, str(label_path))
    check_same_size(pixels, labels, image_path, label_path)
    return pixels, labels


def read_annotated(
    path: Path, size: tuple[int | None, int | None], annotations: Path, reading: ImageReading
) -> NDArray[np.uint8]:
    """Read an image whose annotations are in pixels.

    Args:
        path: path of the image
        size: height and width given in the annotations; None if missing
        annotations: the annotation file
        reading: how to treat EXIF orientations

    Returns:
        (H, W, 3) uint8 RGB

    Raises:
        InputError: the file is invalid, the image has the wrong size, or it is unknown whether the annotations are
            rotated
    """
    image = decode(path, white_level=reading.white_level)
    if reading.exif == "ignore":
        pixels = image.pixels
    elif reading.exif == "apply" or image.orientation == 1:
        pixels = image.upright()
    else:
        pixels = _fitting(image, size, path, f"the entry of {path.name} in {annotations}")
    _check_size(path, pixels.shape[:2], size)
    return pixels


def check_upright_size(path: Path, found: tuple[int, int], size: tuple[int | None, int | None]) -> None:
    """Check that an upright image has the size given in its annotations.

    Args:
        path: path of the image
        found: height and width of the upright image
        size: height and width given in the annotations; None if missing

    Raises:
        InputError: the size differs; if the annotations match the stored pixels, the message says so
    """
    if None not in size and found != size and found == size[::-1]:
        orientation = _orientation_of_file(path)
        if orientation in _SWAPS_SIDES:
            raise InputError(
                f"image {path} is {found[0]}x{found[1]} after its EXIF orientation {orientation} "
                f"({_MEANING[orientation]}), but its annotations are for the stored pixels, {size[0]}x{size[1]} "
                "(height x width): rotate the annotations, or store the image without orientation"
            )
    _check_size(path, found, size)


def _check_size(path: Path, found: tuple[int, ...], size: tuple[int | None, int | None]) -> None:
    height, width = found
    expected = (size[0] or height, size[1] or width)
    if (height, width) != expected:
        raise InputError(
            f"image {path} is {height}x{width} but its annotations are for {expected[0]}x{expected[1]} "
            "(height x width): use the image that was annotated"
        )


def read_unlabeled(path: Path, reading: ImageReading) -> NDArray[np.uint8]:
    """Read an image without labels: upright, unless images with labels were read as stored.

    Returns:
        (H, W, 3) uint8 RGB

    Raises:
        InputError: the file is invalid
    """
    image = decode(path, white_level=reading.white_level)
    return image.pixels if reading.exif == "ignore" else image.upright()


def _fitting(image: StoredImage, size: tuple[int | None, ...], path: Path, labels: str) -> NDArray[np.uint8]:
    """The upright pixels, if the size of the labels shows that the labels belong to them."""
    stored = image.pixels.shape[:2]
    oriented = f"{path} has the EXIF orientation {image.orientation} ({_MEANING[image.orientation]})"
    if image.orientation in _SWAPS_SIDES and stored[0] != stored[1] and None not in size:
        if size == stored:
            raise InputError(
                f"{oriented}: {labels} fits the stored pixels ({stored[0]}x{stored[1]}), not the upright "
                f"image ({stored[1]}x{stored[0]}, height x width): pass --data.exif ignore, or rotate the labels"
            )
        return image.upright()
    raise InputError(
        f"{oriented}, and the size of {labels} does not show whether the labels are rotated as well: {_CHOICE}"
    )


def _orientation_of_file(path: Path) -> int:
    """The EXIF orientation of an image file, read from its header only; 1 if it is not an image."""
    try:
        with Image.open(path) as image:
            # Pillow would decode all pixels of a PNG to find an orientation stored after them.
            return exif_orientation(image) if image.format != "PNG" or "exif" in image.info else 1
    except Exception:
        return 1
