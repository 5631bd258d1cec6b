"""Contact sheets of many images."""

from collections.abc import Sequence

import cv2

from metaprompts.errors import InputError
from metaprompts.visualize.text import ImageArray, blank, fitted, text_size, write_texts

_GAP = 8
_SIZE_PX = 14


def contact_sheet(
    rows: Sequence[Sequence[ImageArray]],
    captions: Sequence[Sequence[str]] | None = None,
    *,
    cell: tuple[int, int] = (240, 320),
) -> ImageArray:
    """Lay out rows of images, each scaled to fit its cell, with a caption below.

    Args:
        rows: images (H,W,3) of any sizes; rows may differ in length
        captions: one line for each image, nested like ``rows``; "" leaves out a caption; long captions are shortened
        cell: height and width of a cell in pixels

    Returns:
        (sheet height, sheet width, 3)

    Raises:
        InputError: there is no image, or captions are not nested like the images
    """
    if not any(rows):
        raise InputError("a contact sheet has no images; give at least one row with an image")
    if captions is not None and [len(row) for row in rows] != [len(row) for row in captions]:
        raise InputError("the captions of a contact sheet are not nested like its images; expected one per image")
    caption_height = text_size("0", _SIZE_PX)[1] + 4 if captions is not None else 0
    down, across = cell[0] + caption_height + _GAP, cell[1] + _GAP
    sheet = blank(len(rows) * down + _GAP, max(map(len, rows)) * across + _GAP)
    texts = []
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            top, left = _GAP + row * down, _GAP + column * across
            small = shrunk(image, cell)
            height, width = small.shape[:2]
            y, x = top + (cell[0] - height) // 2, left + (cell[1] - width) // 2
            sheet[y : y + height, x : x + width] = small
            if captions is not None:
                texts.append((left, top + cell[0] + 2, fitted(captions[row][column], cell[1], _SIZE_PX)))
    return write_texts(sheet, texts, size_px=_SIZE_PX)


def shrunk(image: ImageArray, cell: tuple[int, int]) -> ImageArray:
    """An image (H,W,3), shrunk to fit a cell of this height and width."""
    height, width = image.shape[:2]
    scale = min(cell[0] / height, cell[1] / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    fitted_image: ImageArray = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    return fitted_image
