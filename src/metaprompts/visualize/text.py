"""Small text on pictures, in Pillow's own font."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]
Color = tuple[int, int, int]

PAPER: Color = (250, 250, 250)
INK: Color = (32, 32, 36)


def text_size(text: str, size_px: int) -> tuple[int, int]:
    """Width and height of one line, pixels; the height is that of the font and does not depend on the letters."""
    font = _font(size_px)
    ascent, descent = font.getmetrics()
    return int(np.ceil(font.getlength(text))), ascent + descent


def fitted(text: str, width: int, size_px: int) -> str:
    """Shorten one line to ``width`` pixels, with an ellipsis where something was cut."""
    if text_size(text, size_px)[0] <= width:
        return text
    while text and text_size(text + "…", size_px)[0] > width:
        text = text[:-1]
    return text + "…" if text else ""


def write_texts(picture: Picture, texts: list[tuple[int, int, str]], *, size_px: int, color: Color = INK) -> Picture:
    """Write lines onto a copy of a picture.

    Args:
        picture: (H,W,3)
        texts: left and top in pixels, and one line each
        size_px: size of the font
        color: RGB, 0..255

    Returns:
        (H,W,3)
    """
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for left, top, text in texts:
        draw.text((left, top), text, fill=color, font=_font(size_px))
    return np.asarray(image)


def blank(height: int, width: int, color: Color = PAPER) -> Picture:
    """A picture of one color, (H,W,3)."""
    return np.full((height, width, 3), color, dtype=np.uint8)


def stack_down(*pictures: Picture) -> Picture:
    """Put pictures under each other; narrower ones are filled up with paper on the right."""
    width = max(picture.shape[1] for picture in pictures)
    return np.concatenate([_widened(picture, width) for picture in pictures])


def _widened(picture: Picture, width: int) -> Picture:
    return np.concatenate([picture, blank(len(picture), width - picture.shape[1])], axis=1)


@cache
def _font(size_px: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size_px)
    assert isinstance(font, ImageFont.FreeTypeFont), "this Pillow was built without FreeType"
    return font
