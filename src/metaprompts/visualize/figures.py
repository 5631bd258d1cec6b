"""Charts by matplotlib, as images."""

import logging
import threading
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from metaprompts.visualize.fonts import font_file
from metaprompts.visualize.text import ImageArray, drawn_name

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
        names: texts in any script, for which a font with their letters is chosen

    Returns:
        (height, width, 3)
    """
    # Set before the import, which may warn about an unwritable cache.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    # The import takes half a second, which most commands avoid.
    from matplotlib import font_manager, style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    families = ["DejaVu Sans"]
    others = {unicodedata.normalize("NFC", name) for name in names if not name.isascii()}
    for path in filter(None, {font_file(name) for name in others}):
        font_manager.fontManager.addfont(path)
        families.append(font_manager.FontProperties(fname=path).get_name())
    own = {"font.family": families, "font.size": 9, "axes.titlesize": 10, "axes.titlelocation": "left"}
    # The user's own settings could change charts, or need LaTeX.
    with _DRAWING, style.context(["default", own]):
        figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        paint(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def short_names(names: Sequence[str]) -> list[str]:
    """Shortened names for a chart; "class 3" if no system font has the letters."""
    shown = (drawn_name(name, number) for number, name in enumerate(names))
    return [name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…" for name in shown]


def named_places(count: int) -> range:
    """Indices of the chart rows that get labels: all, or every second, third, ... if there are too many."""
    return range(0, count, -(-count // _MOST_NAMED))
