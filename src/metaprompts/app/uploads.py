"""Read uploaded images, with errors that do not name the server's folders."""

from collections.abc import Callable
from pathlib import Path

from metaprompts.app.settings import Limits
from metaprompts.data.io.images import IMAGE_SUFFIXES, read_image
from metaprompts.errors import InputError, one_line
from metaprompts.utils.byte_size import shown_bytes
from metaprompts.visualize.text import ImageArray

_NAME = "the uploaded file"


def read_upload(path: Path, limits: Limits, check_memory: Callable[[int, int], None]) -> ImageArray:
    """Read an uploaded image.

    Args:
        path: path of the file
        limits: limits on the file's size and the image's sides
        check_memory: raises InputError if an image of this height and width does not fit in memory

    Returns:
        (H, W, 3) uint8 RGB

    Raises:
        InputError: the file is not an image, is broken, or exceeds a limit
    """

    def check_size(width: int, height: int) -> None:
        if max(width, height) > limits.side_px:
            raise InputError(
                f"expected sides of up to {limits.side_px} pixels, got {width} x {height}: make the image smaller first"
            )
        check_memory(height, width)

    try:
        # The page checks the size too, but clients of its API might not.
        if path.stat().st_size > limits.upload_bytes:
            raise InputError(f"{path} is larger than {shown_bytes(limits.upload_bytes)}, the limit of this app")
        return read_image(path, check_size=check_size)
    except InputError as error:
        line = one_line(error).replace(f"image {path}", _NAME).replace(str(path), _NAME)
        raise InputError(line) from error
    except OSError as error:
        raise InputError(f"{_NAME} cannot be read: {error.strerror or type(error).__name__}") from error


def safe_suffix(path: Path) -> str:
    """The suffix of an upload if it is an image suffix, else ".png"."""
    suffix = path.suffix.lower()
    return suffix if suffix in IMAGE_SUFFIXES else ".png"
