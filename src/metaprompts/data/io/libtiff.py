"""Capture libtiff's messages: libtiff prints errors itself, and leaves pixels undecoded."""

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

_MAPS = Path("/proc/self/maps")
_LIBRARY = re.compile(r"(/\S*libtiff[^/\s]*\.so[^/\s]*)$", re.MULTILINE)
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
_PLACEHOLDER = re.compile(r"%[-+ #0-9.*]*(?:hh|h|ll|l|j|z|t|L)?[a-zA-Z]")
# Messages about optional tags.
_OF_TAGS = ("TIFFReadDirectory", "TIFFFetch", "_TIFFVSetField", "TIFFVGetField", "TIFFReadCustom")

_said: list[str] = []


@contextmanager
def quiet_libtiff() -> Iterator[list[str]]:
    """Keep libtiff from printing in this block; yields a list that receives pixel errors when the block ends.

    If the library is not found, libtiff keeps printing and the list stays empty.
    """
    _take_over()
    _said.clear()
    errors: list[str] = []
    try:
        yield errors
    finally:
        errors += [each for each in _said if not each.startswith(_OF_TAGS)]
        _said.clear()


@cache
def _take_over() -> list[Any]:
    """Replace the error handler of Pillow's libtiff."""
    return [_with_handler(path) for path in sorted(_libraries())]


def _with_handler(path: str) -> Any:
    try:
        library = ctypes.CDLL(path)
        library.TIFFSetErrorHandler.argtypes = [_HANDLER]
        library.TIFFSetErrorHandler.restype = ctypes.c_void_p
        library.TIFFSetErrorHandler(_handler)
    except (OSError, AttributeError):
        return None
    return library


def _libraries() -> set[str]:
    Image.init()
    try:
        return set(_LIBRARY.findall(_MAPS.read_text()))
    except OSError:
        libraries = Path(Image.__file__).parent / ".dylibs"
        return {str(path) for path in libraries.glob("libtiff*.dylib")}


def _note(module: bytes | None, text: bytes | None, arguments: int | None) -> None:
    # The arguments are a C va_list, which differs between platforms: the format string is enough.
    del arguments
    words = _PLACEHOLDER.sub("?", (text or b"").decode(errors="replace"))
    _said.append(f"{(module or b'').decode(errors='replace')}: {' '.join(words.split())}")


# Kept alive as long as the process, because libtiff calls it.
_handler = _HANDLER(_note)
