"""Numbers over numbers, each in a panel with its own axes."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from metaprompts.errors import InputError
from metaprompts.visualize.text import Color, ImageArray, blank, stack_down, text_size, write_texts

_WIDTH, _HEIGHT = 330, 130
_LEFT, _TOP, _RIGHT, _BOTTOM = 64, 30, 34, 34
_SIZE_PX = 12
_FAINT: Color = (205, 210, 220)
_STRONG: Color = (181, 71, 47)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One panel.

    Attributes:
        title: above it
        places: (N,) on the lower axis, above 0, ascending
        values: (N,), at least 0
    """

    title: str
    places: Sequence[float]
    values: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.places) != len(self.values) or not self.places:
            raise InputError(f"{self.title}: {len(self.places)} places, {len(self.values)} values; expected one each")


def draw_lines(rows: Sequence[Sequence[Line]]) -> ImageArray:
    """Draw panels, row under row; both axes of each begin at 0, so that what grows in proportion is a straight line.

    Returns:
        (height, width, 3)
    """
    return stack_down(*(np.concatenate([_panel(line) for line in row], axis=1) for row in rows))


def _panel(line: Line) -> ImageArray:
    sheet = blank(_TOP + _HEIGHT + _BOTTOM, _LEFT + _WIDTH + _RIGHT)
    bottom, last, highest = _TOP + _HEIGHT, max(line.places), max(line.values) or 1.0
    cv2.rectangle(sheet, (_LEFT, _TOP), (_LEFT + _WIDTH, bottom), _FAINT)
    spots = [
        (_LEFT + round(place / last * _WIDTH), bottom - round(value / highest * _HEIGHT))
        for place, value in zip(line.places, line.values, strict=True)
    ]
    cv2.polylines(sheet, [np.array(spots, np.int32)], False, _STRONG, 2, cv2.LINE_AA)
    texts = [(_LEFT, 8, line.title), (4, _TOP - 6, f"{highest:.3g}"), (4, bottom - _SIZE_PX, "0")]
    free = 0
    for (x, y), place in zip(spots, line.places, strict=True):
        cv2.circle(sheet, (x, y), 4, _STRONG, -1, cv2.LINE_AA)
        name = f"{place:.0f}"
        half = text_size(name, _SIZE_PX)[0] // 2
        # Where points lie close together only some are named.
        if x - half >= free:
            texts.append((x - half, bottom + 6, name))
            free = x + half + 6
    return write_texts(sheet, texts, size_px=_SIZE_PX)
