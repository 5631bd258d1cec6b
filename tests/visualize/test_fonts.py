import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from metaprompts.visualize import fonts
from metaprompts.visualize.segmentation import class_legend, palette
from metaprompts.visualize.text import drawn_name


def square():
    pen = TTGlyphPen(None)
    for start, *rest in [((100, 0), (100, 700), (800, 700), (800, 0))]:
        pen.moveTo(start)
        for point in rest:
            pen.lineTo(point)
        pen.closePath()
    return pen.glyph()


def write_font(path, letters, *, own_glyphs=True):
    """A font that draws letters as black squares; without glyphs of their own it is one of last resort."""
    names = {letter: f"g{place if own_glyphs else 0}" for place, letter in enumerate(letters)}
    glyphs = [".notdef", *dict.fromkeys(names.values())]
    builder = FontBuilder(1000)
    builder.setupGlyphOrder(glyphs)
    builder.setupCharacterMap({ord(letter): name for letter, name in names.items()})
    builder.setupGlyf({name: square() for name in glyphs})
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (900, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Test", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Fonts of a system that has no others."""

    def forget():
        fonts._font_files.cache_clear()
        fonts._path_for.cache_clear()

    monkeypatch.setattr(fonts, "_folders", lambda: [tmp_path])
    forget()
    yield tmp_path
    forget()


@pytest.mark.parametrize("name", ["道路", "дорога", "", " ", "a\nb"])
def test_a_name_that_no_font_has_is_a_number(installed, name):
    """Legends had a row of boxes for each name in another script."""
    assert drawn_name(name, 7) == "class 7"
    strips = [class_legend([each], palette(1), 300, numbers=[7]) for each in (name, "class 7")]
    assert np.array_equal(*strips)


def test_a_font_that_has_the_letters_is_found(installed):
    write_font(installed / "a.ttf", "道路")
    assert drawn_name("道路", 7) == "道路"
    assert drawn_name("道途", 7) == "class 7"
    drawn, number = (class_legend([each], palette(1), 300, numbers=[7]) for each in ("道路", "道途"))
    assert not np.array_equal(drawn, number)


def test_a_font_of_last_resort_has_no_letters(installed):
    """One that comes with Matplotlib claims all letters, and draws a box for each."""
    write_font(installed / "a.ttf", "道路車人木水火土", own_glyphs=False)
    write_font(installed / "LastResort-Regular.ttf", "道路")
    (installed / "b.ttf").write_bytes(b"no font")
    assert drawn_name("道路", 7) == "class 7"


def test_english_needs_no_font_of_the_system(monkeypatch):
    monkeypatch.setattr(fonts, "_path_for", None)
    assert drawn_name("traffic light", 0) == "traffic light"
