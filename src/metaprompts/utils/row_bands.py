"""Bands of rows, to process an image band by band, so that temporary copies need memory for only one band."""

from collections.abc import Iterator

_BAND_PIXELS = 2**20


def row_bands(height: int, width: int) -> Iterator[slice]:
    """The rows of an image in bands of about a million pixels, from top to bottom.

    Args:
        height: height of the image
        width: width of the image
    """
    rows = max(1, _BAND_PIXELS // max(width, 1))
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))
