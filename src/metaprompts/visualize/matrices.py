"""Matrices of numbers as charts of colored cells."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from metaprompts.errors import InputError
from metaprompts.visualize.figures import draw_figure, named_places, short_names
from metaprompts.visualize.text import ImageArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOW, HIGH = "#265ebe", "#c42a24"
DARK, MISSING = "#08306b", "#d6d6d6"
_WHITE = "#ffffff"
# Inches: size of a cell, and space for names, title and color bar.
_CELL, _NUMBERED_CELL, _BORDER = 0.17, 0.36, 2.4
# Maximum number of cells with written numbers; more would be unreadable.
_MOST_NUMBERED = 32
_TITLE = "share of each class's pixels (rows: truth)\npredicted as each class (columns), in %"


def draw_matrix(values: NDArray[np.floating], rows: Sequence[str], columns: Sequence[str]) -> ImageArray:
    """Draw one number per cell: red is above 0, blue below, white 0, gray missing; the largest has full color.

    Args:
        values: (R,C); NaN is missing
        rows: R names, written to the left; only some if there are very many
        columns: C names, written vertically below; only some if there are very many

    Returns:
        (height, width, 3)

    Raises:
        InputError: names and values do not match
    """
    if values.shape != (len(rows), len(columns)) or not values.size:
        raise InputError(
            f"a matrix of shape {values.shape} has {len(rows)} row and {len(columns)} column names; expected one name "
            "per row and column"
        )
    limit = float(np.nanmax(np.abs(values), initial=0)) or 1.0

    def paint(figure: "Figure") -> None:
        axes = figure.subplots()
        _cells(axes, values, (LOW, _WHITE, HIGH), (-limit, limit))
        _name(axes, rows, columns)
        figure.colorbar(axes.images[0], ax=axes, shrink=0.5)

    return draw_figure(_size(values, _CELL), paint, [*rows, *columns])


def draw_confusion(pixels: NDArray[np.int64], names: Sequence[str]) -> ImageArray:
    """Draw the fraction of each class's pixels predicted as each class; rows without pixels are gray.

    Args:
        pixels: (C, C), ground truth in rows, predictions in columns
        names: names of the C classes

    Returns:
        (height, width, 3)
    """
    sums = pixels.sum(axis=1, keepdims=True)
    shares = np.where(sums > 0, pixels / np.maximum(sums, 1), np.nan)
    is_numbered = len(names) <= _MOST_NUMBERED

    def paint(figure: "Figure") -> None:
        axes = figure.subplots()
        # The square root makes small shares visible.
        _cells(axes, np.sqrt(shares), (_WHITE, DARK), (0, 1))
        _name(axes, names, names)
        axes.set_title(_TITLE)
        for row, column in zip(*np.nonzero(shares >= 0.005), strict=True) if is_numbered else ():
            share = shares[row, column]
            color = "white" if share > 0.35 else "black"
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=color)

    return draw_figure(_size(shares, _NUMBERED_CELL if is_numbered else _CELL), paint, names)


def _size(values: NDArray[np.floating], cell: float) -> tuple[float, float]:
    height, width = (cell * count / named_places(count).step + _BORDER for count in values.shape)
    return max(width, 2 * _BORDER), height


def _cells(axes: "Axes", values: NDArray[np.floating], colors: Sequence[str], limits: tuple[float, float]) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    scale = LinearSegmentedColormap.from_list("", list(colors), N=511, bad=MISSING)
    rows, columns = (named_places(count).step for count in values.shape)
    aspect = columns / rows
    axes.imshow(values, cmap=scale, vmin=limits[0], vmax=limits[1], interpolation="nearest", aspect=aspect)


def _name(axes: "Axes", rows: Sequence[str], columns: Sequence[str]) -> None:
    down, across = named_places(len(rows)), named_places(len(columns))
    axes.set_yticks(down, short_names(rows)[:: down.step], parse_math=False)
    axes.set_xticks(across, short_names(columns)[:: across.step], parse_math=False, rotation=90)
