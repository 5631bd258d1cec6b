import threading
import unicodedata
from contextlib import suppress

import matplotlib as mpl
import numpy as np

from metaprompts.visualize import figures
from metaprompts.visualize.bars import draw_bars
from metaprompts.visualize.figures import draw_figure, named_places


def test_charts_do_not_depend_on_the_settings_of_the_process():
    """A user's dark style made other charts, and text.usetex ended them with an error where there is no LaTeX."""
    before = draw_bars(np.array([0.5]), ["a"], 1.0)
    with mpl.rc_context({"text.usetex": True, "axes.facecolor": "black"}):
        np.testing.assert_array_equal(draw_bars(np.array([0.5]), ["a"], 1.0), before)


def test_threads_that_draw_leave_the_settings_of_the_process_alone():
    """Two threads that drew at the same time left the font and the titles of one of them in the settings."""
    before, inside = dict(mpl.rcParams), threading.Barrier(2)

    def draw():
        # Whoever is first waits within the drawing for the other, which must not come in.
        with suppress(threading.BrokenBarrierError):
            draw_figure((1, 1), lambda figure: inside.wait(0.2))

    threads = [threading.Thread(target=draw) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside.broken
    assert dict(mpl.rcParams) == before


def test_fonts_are_chosen_for_the_letters_that_are_drawn(monkeypatch):
    """Names as macOS spells them, in parts of letters, got a font for the parts: boxes instead of Korean syllables."""
    asked = []
    monkeypatch.setattr(figures, "font_file", asked.append)
    draw_figure((1, 1), lambda figure: None, [unicodedata.normalize("NFD", "\uac00")])
    assert asked == ["\uac00"]


def test_no_more_rows_are_named_than_an_image_has_room_for():
    assert [len(named_places(count)) for count in (1, 400, 401, 16384)] == [1, 400, 201, 400]
