"""Open one image file of any format with the values that it stores, or raise a one-line error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from metaprompts.data.io.libtiff import quiet_libtiff
from metaprompts.errors import InputError, one_line

_WITH_FRAMES = ("TIFF", "GIF", "PNG", "WEBP", "AVIF")
_SUBFILE_TYPE = 254
_PREVIEW_OR_MASK = 1 | 4
# Pillow scales gray of fewer than 8 bits to 255.
_FACTORS = {"L;2": 85, "L;4": 17}
# Formats that Pillow reads only with plugins, or not at all, by their first bytes.
_HEAD = 32
_HEIC = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))
_JXL = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL \r\n\x87\n")
_STARTS = {
    b"%PDF": "a PDF document",
    b"\x1aE\xdf\xa3": "a Matroska or WebM video",
    b"RIFF": "an AVI video",
    b"\x76\x2f\x31\x01": "an OpenEXR image",
    b"SIMPLE  =": "a FITS image",
    b"\x89HDF": "an HDF5 file",
    b"MATLAB": "a MATLAB file",
    b"\x93NUMPY": "a NumPy array",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"<svg": "an SVG drawing",
    b"<?xml": "an XML file",
    b"<!DOC": "an HTML page",
    b"<html": "an HTML page",
}

CheckSize = Callable[[int, int], None]
"""Checks the width and height of an image; raises InputError if it is too large."""


def _check_single_frame(sentence: str) -> None:
    raise InputError(f"{sentence}; expected one: save each as a separate file")


def load_image(
    path: Path,
    *,
    kind: str = "image",
    expected: str = "a PNG or JPEG file",
    check_size: CheckSize | None = None,
    inspect: Callable[[Image.Image], object] = lambda image: None,
    further_frames: Callable[[str], None] = _check_single_frame,
) -> Image.Image:
    """Open an image file and decode all of its pixels.

    Args:
        path: path of the file
        kind: the expected kind of file, which begins the error ("image", "label file", ...)
        expected: accepted formats, for the error
        check_size: checks width and height before decoding, instead of Pillow's limit
        inspect: called with the image before it is decoded
        further_frames: called with a message giving the number of frames if there are several; by default, several
            frames are an error

    Returns:
        the decoded image in its stored mode; the first frame if there are several

    Raises:
        InputError: the file is missing, a folder, empty, not an image, too large or truncated, or has several frames
    """
    check_regular_file(path, kind)
    _prepare_for(path, kind)
    try:
        with path.open("rb") as file, nullcontext() if check_size is None else _any_size():
            image = Image.open(file)
            # Pillow recognizes the format, but has no decoder.
            if isinstance(image, ImageFile.StubImageFile):
                raise UnidentifiedImageError
            if check_size is not None:
                _check_size(image, check_size, f"{kind} {path}")
            inspect(image)
            _load(image)
            if (frames := _count_frames(image, path)) > 1:
                further_frames(f"{kind} {path} has {frames} frames")
            return image
    except InputError:
        raise
    except UnidentifiedImageError as error:
        if (found := _other_format(path)) is not None:
            raise InputError(f"{kind} {path} is {found}: give {expected}") from error
        raise InputError(f"{kind} {path} is not an image: give {expected}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            f"{kind} {path} is too large to decode safely ({one_line(error)}): make it smaller first"
        ) from error
    # Pillow's readers raise errors of any type, not only OSError.
    except Exception as error:
        raise InputError(
            f"{kind} {path} is broken or truncated ({one_line(error)}): copy or export the file again"
        ) from error


def _prepare_for(path: Path, kind: str) -> None:
    """Register the Pillow plugin for a file, if Pillow needs one for its format."""
    head = _head(path)
    if _brand(head) in _HEIC:
        try:
            import pillow_heif
        except ImportError as error:
            raise InputError(
                f"{kind} {path} is a HEIC image: pip install 'metaprompts[heic]', or save it as JPEG or PNG"
            ) from error
        pillow_heif.register_heif_opener()
    elif head.startswith(_JXL):
        try:
            import pillow_jxl  # noqa: F401  # importing it registers it
        except ImportError as error:
            raise InputError(
                f"{kind} {path} is a JPEG XL image: pip install pillow-jxl-plugin, or save it as JPEG or PNG"
            ) from error


def _other_format(path: Path) -> str | None:
    """The kind of a file that is not a readable image, for example "an MP4 or QuickTime video"; None if unknown."""
    head = _head(path)
    brand = _brand(head)
    if brand in (b"avif", b"avis"):
        return "an AVIF image, which this build of Pillow does not support"
    if brand in _HEIC:
        return "a HEIC image that is broken or truncated"
    if brand is not None:
        return "an MP4 or QuickTime video"
    return next((name for start, name in _STARTS.items() if head.startswith(start)), None)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError:  # reading the file reports the error
        return b""


def _brand(head: bytes) -> bytes | None:
    """The brand of an ISO media file."""
    return head[8:12] if head[4:8] == b"ftyp" else None


def _count_frames(image: Image.Image, path: Path) -> int:
    """Number of frames in a TIFF or an animation, not counting previews and transparency masks in TIFFs."""
    if image.format not in _WITH_FRAMES:
        return 1
    try:
        # Counting seeks through the frames, which must not affect the returned image.
        with Image.open(path) as frames:
            count = getattr(frames, "n_frames", 1)
            if image.format != "TIFF" or count == 1:
                return int(count)
            return sum(_is_full_frame(frames, place) for place in range(count))
    # The first frame is intact; the damage comes later.
    except Exception:
        return 1


def _is_full_frame(image: Image.Image, place: int) -> bool:
    image.seek(place)
    kind = image.tag_v2.get(_SUBFILE_TYPE, 0) if isinstance(image, TiffImagePlugin.TiffImageFile) else 0
    return not kind & _PREVIEW_OR_MASK


def _check_size(image: Image.Image, check_size: CheckSize, name: str) -> None:
    try:
        check_size(*image.size)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _load(image: ImageFile.ImageFile) -> None:
    if image.format != "TIFF":
        image.load()
        return
    # If strips are missing, Pillow leaves their pixels unset.
    extents: list[Any] = [tile[1] for tile in image.tile]
    covered: int = sum([(right - left) * (lower - upper) for left, upper, right, lower in extents])
    if covered < image.width * image.height:
        raise OSError("its strips do not cover the image")
    with quiet_libtiff() as errors:
        image.load()
    # Pillow does not detect all missing strips, and pixels would be missing.
    if errors:
        raise OSError(errors[0])


@contextmanager
def _any_size() -> Iterator[None]:
    """Lift Pillow's process-wide pixel limit in this block."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def check_regular_file(path: Path, kind: str) -> None:
    """Check that a file exists and can be read to its end.

    Args:
        path: path of the file
        kind: the expected kind of file, which begins the error

    Raises:
        InputError: the file is missing, a folder, a pipe, a device, or empty
    """
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise InputError(f"{kind} {path} does not exist: check the path") from error
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or one_line(error)
        raise InputError(f"{kind} {path} cannot be read: {reason}") from error
    if path.is_dir():
        raise InputError(f"{kind} {path} is a folder: give a file")
    # Reading a pipe or a device would block or never end.
    if not path.is_file():
        raise InputError(f"{kind} {path} is not a regular file: give an image file")
    if status.st_size == 0:
        raise InputError(f"{kind} {path} is empty (0 bytes): copy or export the file again")


@contextmanager
def naming_failure(failed: str, cure: str) -> Iterator[None]:
    """Turn errors of any type, such as those of file readers, into InputErrors: "<failed> (<the error>): <cure>".

    Raises:
        InputError: an error was raised in the block
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{failed} ({one_line(error)}): {cure}") from error


def load_library(name: str, what: str, extra: str) -> Any:
    """Import a library that reads a file.

    Raises:
        InputError: the library is not installed; the message names the file and the package's extra
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise InputError(f"reading {what} needs {package}: pip install 'metaprompts[{extra}]'") from error


def check_pixels(width: int, height: int, name: str) -> None:
    """Check that an image is not too large, before decoding it.

    Raises:
        InputError: the image has more pixels than Pillow would decode
    """
    # Pillow's own rule: it warns above its limit, and raises above twice the limit.
    if Image.MAX_IMAGE_PIXELS is not None and width * height > 2 * Image.MAX_IMAGE_PIXELS:
        raise InputError(f"{name} is {height}x{width}, too large to decode safely: make it smaller first")


def read_with_opencv(path: Path) -> NDArray[Any] | None:
    """Read an image that Pillow cannot read (for example 16-bit channels) with OpenCV, silencing its output on stderr.

    Returns:
        (H, W) or (H, W, C), of the stored type, channels in OpenCV's order; None if the image cannot be read
    """
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        values: NDArray[Any] | None = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        return values
    except cv2.error:
        return None
    finally:
        cv2.utils.logging.setLogLevel(level)


def netpbm_maximum(image: Image.Image) -> int | None:
    """The value of white in an undecoded PGM or PPM file; None if Pillow does not rescale."""
    decoder, arguments = _decoding(image)
    return int(arguments[1]) if decoder in ("ppm", "ppm_plain") else None


def keep_stored_values(image: Image.Image) -> int:
    """Make Pillow decode a single-channel image without rescaling, as far as possible.

    Args:
        image: undecoded

    Returns:
        the divisor that converts decoded values to stored values
    """
    decoder, arguments = _decoding(image)
    is_deep = image.mode == "I"
    if decoder == "ppm" and image.mode in ("L", "I"):
        _set_decoding(image, "raw", ("I;16B" if is_deep else "L", 0, 1))
    elif decoder == "ppm_plain" and image.mode in ("L", "I"):
        _set_decoding(image, decoder, (arguments[0], 65535 if is_deep else 255))
    layout = arguments[0] if arguments else None
    return next((factor for start, factor in _FACTORS.items() if str(layout).startswith(start)), 1)


def _decoding(image: Any) -> tuple[str | None, tuple[Any, ...]]:
    """The name of an image's decoder and its arguments."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return None, ()
    decoder, _, _, arguments = tiles[0]
    return decoder, arguments if isinstance(arguments, tuple) else (arguments,)


def _set_decoding(image: Any, decoder: str, arguments: tuple[Any, ...]) -> None:
    image.tile = [(decoder, extents, offset, arguments) for _, extents, offset, _ in image.tile]
