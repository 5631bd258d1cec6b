"""Small text on images."""

import unicodedata

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from metaprompts.visualize.fonts import font_for, own_font

ImageArray = NDArray[np.uint8]
Color = tuple[int, int, int]

PAPER: Color = (250, 250, 250)
INK: Color = (32, 32, 36)


def text_size(text: str, size_px: int) -> tuple[int, int]:
    """Width and height of one line in pixels; the height does not depend on the letters."""
    text, font = _drawable(text, size_px)
    return int(np.ceil(font.getlength(text))), sum(own_font(size_px).getmetrics())


def drawn_name(name: str, number: int) -> str:
    """A name, or "class 3" if it is empty or no system font has its letters.

    Args:
        name: name of any script
        number: number of the class, from 0
    """
    text = unicodedata.normalize("NFC", name)
    return text if text.strip() and font_for(text, 12) is not None else f"class {number}"


def wrapped(text: str, width: int, size_px: int) -> list[str]:
    """Lines of at most ``width`` pixels, broken at plain spaces; longer words are shortened."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and text_size(f"{lines[-1]} {word}", size_px)[0] <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return [fitted(line, width, size_px) for line in lines]


def fitted(text: str, width: int, size_px: int) -> str:
    """Shorten one line to ``width`` pixels, with an ellipsis if it was cut."""
    if text_size(text, size_px)[0] <= width:
        return text
    while text and text_size(text + "…", size_px)[0] > width:
        text = text[:-1]
    return text + "…" if text else ""


def write_texts(image: ImageArray, texts: list[tuple[int, int, str]], *, size_px: int) -> ImageArray:
    """Write lines onto a copy of an image.

    Args:
        image: (H,W,3)
        texts: for each line, left and top in pixels, and the text
        size_px: size of the font

    Returns:
        (H,W,3)
    """
    drawn = Image.fromarray(image)
    draw = ImageDraw.Draw(drawn)
    ascent = own_font(size_px).getmetrics()[0]
    for left, top, text in texts:
        text, font = _drawable(text, size_px)
        draw.text((left, top + ascent), text, fill=INK, font=font, anchor="ls")
    return np.asarray(drawn)


def blank(height: int, width: int) -> ImageArray:
    """An image of the paper color, (H,W,3)."""
    return np.full((height, width, 3), PAPER, dtype=np.uint8)


def stack_down(*images: ImageArray) -> ImageArray:
    """Stack images vertically; narrower images are padded with the paper color on the right."""
    width = max(image.shape[1] for image in images)
    margins = [blank(len(image), width - image.shape[1]) for image in images]
    return np.concatenate([np.concatenate(both, axis=1) for both in zip(images, margins, strict=True)])


def _drawable(text: str, size_px: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """The text, and a font that has its letters; letters in no font become question marks."""
    # Not every font has the non-breaking space.
    text = unicodedata.normalize("NFC", text).replace("\u00a0", " ")
    font = font_for(text, size_px)
    if font is None:
        text = "".join(letter if font_for(letter, size_px) is own_font(size_px) else "?" for letter in text)
        font = own_font(size_px)
    return text, font
