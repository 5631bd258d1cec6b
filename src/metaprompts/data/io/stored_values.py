"""Stored values of single-channel files that Pillow would rescale to 255 or 65535."""

from typing import Any

from PIL import Image

# Pillow scales gray of fewer than 8 bits to 255.
_FACTORS = {"L;2": 85, "L;4": 17}


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
