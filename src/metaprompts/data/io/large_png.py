"""Write PNG files, including images too large for Pillow to copy."""

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metaprompts.utils.batches import row_bands
from metaprompts.utils.files import write_whole

# Images with more pixels are written in bands: Pillow would copy them with 4 bytes per pixel.
_LARGE = 2**25
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GRAY, _RGB, _PALETTE = 0, 2, 3
# The "up" filter: a row is stored as its difference from the row above, byte by byte.
_UP = 2
# zlib level: the default level takes twice the time for files that are a quarter smaller.
_COMPRESSION = 3


def write_png(
    path: Path, size: tuple[int, ...], bands: Iterable[NDArray[Any]], *, palette: bytes | None = None
) -> Path:
    """Write a PNG atomically, with Pillow or in bands; arguments as for `write_large_png`.

    Returns:
        ``path``

    Raises:
        InputError: the file cannot be written
    """
    height, width = size
    with write_whole(path) as scratch:
        if height * width > _LARGE:
            lower = (band[rows] for band in bands for rows in row_bands(len(band), width))
            write_large_png(scratch, (height, width), lower, palette=palette)
            return path
        image = Image.fromarray(np.concatenate(list(bands)))
        if palette is not None:
            image.putpalette(palette)
        image.save(scratch, compress_level=_COMPRESSION)
    return path


def write_large_png(
    path: Path, size: tuple[int, int], bands: Iterable[NDArray[Any]], *, palette: bytes | None = None
) -> None:
    """Write a PNG in bands.

    Args:
        path: path of the file
        size: height and width
        bands: consecutive rows, all (h, W) uint8 or uint16, or (h, W, 3) uint8
        palette: colors of uint8 indices, 3 bytes each
    """
    compressor = zlib.compressobj(_COMPRESSION)
    above: NDArray[np.uint8] | None = None
    with path.open("wb") as file:
        for band in bands:
            if above is None:
                _write_header(file, size, band, palette)
                above = np.zeros(_row_bytes(band[:1]).shape[1], np.uint8)
            rows = _row_bytes(band)
            filtered = np.full((len(rows), rows.shape[1] + 1), _UP, np.uint8)
            filtered[0, 1:] = rows[0] - above
            filtered[1:, 1:] = rows[1:] - rows[:-1]
            above = rows[-1].copy()
            _write_chunk(file, b"IDAT", compressor.compress(filtered.data))
        _write_chunk(file, b"IDAT", compressor.flush())
        _write_chunk(file, b"IEND", b"")


def _write_header(file: IO[bytes], size: tuple[int, int], band: NDArray[Any], palette: bytes | None) -> None:
    kind = _PALETTE if palette is not None else _RGB if band.ndim == 3 else _GRAY
    file.write(_SIGNATURE)
    _write_chunk(file, b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], 8 * band.itemsize, kind, 0, 0, 0))
    if palette is not None:
        _write_chunk(file, b"PLTE", palette)


def _row_bytes(band: NDArray[Any]) -> NDArray[np.uint8]:
    """(h, bytes per row), the more significant byte first."""
    ordered = np.ascontiguousarray(band.astype(band.dtype.newbyteorder(">"), copy=False))
    return ordered.reshape(len(band), -1).view(np.uint8)


def _write_chunk(file: IO[bytes], kind: bytes, content: bytes) -> None:
    file.write(struct.pack(">I", len(content)) + kind)
    file.write(content)
    file.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(kind))))
