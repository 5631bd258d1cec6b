"""Charts by matplotlib, as images."""

import logging
import threading
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from metaprompts.visualize.fonts import font_file
from metaprompts.visualize.text import Color, ImageArray, drawn_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 100
_LONGEST_NAME = 28
_MOST_NAMED = 400
# Matplotlib's settings belong to the whole process.
_DRAWING = threading.Lock()


def draw_figure(size: tuple[float, float], paint: "Callable[[Figure], None]", names: Iterable[str] = ()) -> ImageArray:
    """Draw a chart.

    Args:
        size: width and height, inches of 100 pixels
        paint: draws into an empty figure
        names: the texts of it that may be in any script; their letters get a font that has them

    Returns:
        (height, width, 3)
    """
    # Before the import, which may warn of a cache that cannot be written.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    # Takes half a second, which most commands can do without.
    from matplotlib import font_manager, style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    families = ["DejaVu Sans"]
    others = {unicodedata.normalize("NFC", name) for name in names if not name.isascii()}
    for path in filter(None, {font_file(name) for name in others}):
        font_manager.fontManager.addfont(path)
        families.append(font_manager.FontProperties(fname=path).get_name())
    own = {"font.family": families, "font.size": 9, "axes.titlesize": 10, "axes.titlelocation": "left"}
    # The user's own settings could make other charts, or need LaTeX.
    with _DRAWING, style.context(["default", own]):
        figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        paint(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def short_names(names: Sequence[str]) -> list[str]:
    """Names as a chart shows them: not too long; "class 3" where no font of this system has the letters."""
    shown = (drawn_name(name, number) for number, name in enumerate(names))
    return [name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…" for name in shown]


def named_places(count: int) -> range:
    """Which of so many rows of a chart are named: all, or every second, third ... where an image would be too large."""
    return range(0, count, -(-count // _MOST_NAMED))


def rgb(color: Color) -> tuple[float, float, float]:
    """A color, 0..255, as matplotlib takes it."""
    red, green, blue = (channel / 255 for channel in color)
    return red, green, blue
