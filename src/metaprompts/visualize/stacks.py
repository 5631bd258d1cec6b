"""Stacked bars, and next to each a second bar."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from metaprompts.errors import InputError
from metaprompts.visualize.text import Color, ImageArray, blank, fitted, text_size, write_texts

_COLORS: tuple[Color, ...] = (
    *((148, 148, 156), (47, 116, 181), (222, 150, 58), (196, 110, 34), (160, 76, 18), (74, 148, 92), (134, 94, 170)),
    *((90, 190, 196), (204, 92, 128)),
)
_SECOND: Color = (120, 132, 150)
_SIZE_PX, _GAP, _ROW, _BAR = 13, 10, 30, 18
_WIDEST_NAME, _LONGEST, _LONGEST_SECOND = 200, 480, 200


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One row.

    Attributes:
        name: to the left
        parts: by name, at least 0; the names of the first row that has them are the legend's
        note: behind the bar
        second: the second bar's length
        second_note: text behind it
    """

    name: str
    parts: Mapping[str, float]
    note: str
    second: float
    second_note: str


def draw_stacks(stacks: Sequence[Stack], titles: tuple[str, str]) -> ImageArray:
    """Draw rows; the longest bar of each kind has the full length.

    Args:
        stacks: the rows
        titles: of the stacked bars and of the second bars

    Returns:
        (height, width, 3)

    Raises:
        InputError: there are no rows
    """
    if not stacks:
        raise InputError("no bars to draw; expected at least one")
    left = 2 * _GAP + min(max(text_size(stack.name, _SIZE_PX)[0] for stack in stacks), _WIDEST_NAME)
    middle = left + _LONGEST + _widest(stack.note for stack in stacks) + 3 * _GAP
    width = middle + _LONGEST_SECOND + _widest(stack.second_note for stack in stacks) + 2 * _GAP
    colors = _colors(stacks)
    sheet = blank(2 * _ROW + len(stacks) * _ROW + _GAP, width)
    texts = [(left, _GAP, titles[0]), (middle, _GAP, titles[1])]
    scale = _LONGEST / (max(sum(stack.parts.values()) for stack in stacks) or 1)
    scale_second = _LONGEST_SECOND / (max(stack.second for stack in stacks) or 1)
    for row, stack in enumerate(stacks):
        top = (row + 1) * _ROW + (_ROW - _BAR) // 2
        end, reached = left, 0.0
        for name, value in stack.parts.items():
            reached += value * scale
            start, end = end, left + round(reached)
            sheet[top : top + _BAR, start:end] = colors[name]
        second_end = middle + round(stack.second * scale_second)
        sheet[top : top + _BAR, middle:second_end] = _SECOND
        texts += [(_GAP, top, fitted(stack.name, _WIDEST_NAME, _SIZE_PX)), (end + _GAP // 2, top, stack.note)]
        texts.append((second_end + _GAP // 2, top, stack.second_note))
    return _with_legend(sheet, texts, colors, left)


def _with_legend(
    sheet: ImageArray, texts: list[tuple[int, int, str]], colors: Mapping[str, Color], left: int
) -> ImageArray:
    top = len(sheet) - _ROW
    for name, color in colors.items():
        sheet[top + 4 : top + 14, left : left + 10] = color
        texts.append((left + 14, top, name))
        left += 14 + text_size(name, _SIZE_PX)[0] + 2 * _GAP
    return write_texts(sheet, texts, size_px=_SIZE_PX)


def _colors(stacks: Sequence[Stack]) -> dict[str, Color]:
    names = dict.fromkeys(name for stack in stacks for name in stack.parts)
    return {name: _COLORS[index % len(_COLORS)] for index, name in enumerate(names)}


def _widest(texts: Iterable[str]) -> int:
    return max(text_size(text, _SIZE_PX)[0] for text in texts)
