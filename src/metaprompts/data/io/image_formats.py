"""Formats that Pillow reads only with plugins, detected by their first bytes."""

from pathlib import Path

from metaprompts.errors import InputError

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


def prepare_for(path: Path, kind: str) -> None:
    """Register the Pillow plugin for a file, if Pillow needs one for its format.

    Args:
        path: an existing file
        kind: the expected kind of file, which begins the error

    Raises:
        InputError: the plugin for its format is not installed
    """
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


def other_format(path: Path) -> str | None:
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
