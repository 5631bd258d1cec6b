"""Bar charts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from metaprompts.errors import InputError
from metaprompts.visualize.figures import draw_figure, named_places, short_names
from metaprompts.visualize.matrices import HIGH, LOW
from metaprompts.visualize.text import ImageArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Inches per row, and for titles, axis and legend.
_ROW, _BORDER = 0.2, 0.6
_STACK, _STACKS_BORDER = 0.32, 1.2


def draw_bars(values: NDArray[np.floating], names: Sequence[str], limit: float) -> ImageArray:
    """Draw a bar for each number, to the right (red, above 0) or the left (blue, below 0), with the number next to it.

    Args:
        values: (R,); NaN has no bar
        names: R names; if there are very many, only some of the names and none of the numbers are written
        limit: end of the axis in both directions

    Returns:
        (height, width, 3)

    Raises:
        InputError: names and values do not match
    """
    if values.shape != (len(names),) or not values.size:
        raise InputError(f"got {len(names)} names for bars of shape {values.shape}; expected one name per bar")

    places = named_places(len(names))

    def paint(figure: "Figure") -> None:
        axes = figure.subplots()
        colors = [HIGH if value > 0 else LOW for value in values]
        bars = axes.barh(range(len(names)), np.nan_to_num(values), color=colors)
        if places.step == 1:
            axes.bar_label(bars, ["-" if np.isnan(value) else f"{value:.3f}" for value in values], padding=3)
        axes.axvline(0, color="black", linewidth=0.8)
        # Space for the numbers, which are written beyond the ends of the bars.
        axes.set_xlim(-1.25 * limit, 1.25 * limit)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_yticks(places, short_names(names)[:: places.step], parse_math=False)

    return draw_figure((6, len(places) * _ROW + _BORDER), paint, names)


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One row.

    Attributes:
        name: written to the left of the bar
        parts: name -> length of the part, at least 0
        note: written after the bar
        second: length of the second bar
        second_note: written after the second bar
    """

    name: str
    parts: Mapping[str, float]
    note: str
    second: float
    second_note: str


def draw_stacks(stacks: Sequence[Stack], titles: tuple[str, str]) -> ImageArray:
    """Draw one stacked bar per row, with a second bar next to it.

    Args:
        stacks: the rows
        titles: titles of the stacked bars and of the second bars

    Returns:
        (height, width, 3)

    Raises:
        InputError: there are no rows
    """
    if not stacks:
        raise InputError("no bars to draw; expected at least one")
    names = [stack.name for stack in stacks]
    rows = range(len(stacks))

    def paint(figure: "Figure") -> None:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2, 1))
        ends = np.zeros(len(stacks))
        for part in dict.fromkeys(name for stack in stacks for name in stack.parts):
            lengths = np.array([stack.parts.get(part, 0.0) for stack in stacks])
            bars = left.barh(rows, lengths, left=ends, label=part)
            ends += lengths
        left.bar_label(bars, [stack.note for stack in stacks], padding=3)
        bars = right.barh(rows, [stack.second for stack in stacks], color="slategray")
        right.bar_label(bars, [stack.second_note for stack in stacks], padding=3)
        # Space for the notes, which are written after the bars.
        for axes, title, margin in zip((left, right), titles, (0.2, 0.4), strict=True):
            axes.set_title(title)
            axes.margins(x=margin)
        left.set_yticks(rows, short_names(names), parse_math=False)
        left.invert_yaxis()
        figure.legend(loc="outside lower left", ncols=8)

    return draw_figure((9.6, len(stacks) * _STACK + _STACKS_BORDER), paint, names)
