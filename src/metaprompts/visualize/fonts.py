"""Choose the font for a text: Pillow's own font if it has all letters, else a system font."""

import os
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, features

_SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")
# Among fonts with the letters, the font with the fewest of these words in its name is used.
_FANCY = "bold italic oblique mono serif condensed light thin black heavy display math emoji medium extra".split()
_JOINERS = "\u200c\u200d"
_PROBE_PX = 16
# Minimum fraction of letters that have their own glyph, because capitals may serve as small letters.
_OWN_GLYPHS = 0.25


def font_for(text: str, size_px: int) -> ImageFont.FreeTypeFont | None:
    """A font with a glyph for each letter of one line of text; None if no system font has them.

    Args:
        text: normalized (NFC)
        size_px: size of the font
    """
    if _is_plain(text):
        return own_font(size_px)
    path = font_file(text)
    return None if path is None else _system_font(path, size_px)


def font_file(text: str) -> Path | None:
    """The file of a system font with all letters of a text; None if there is none."""
    return _path_for(frozenset(text), _needs_shaping(text))


@cache
def own_font(size_px: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, which has the letters of English and little else."""
    font = ImageFont.load_default(size_px)
    assert isinstance(font, ImageFont.FreeTypeFont), "this Pillow was built without FreeType"
    return font


def _is_plain(text: str) -> bool:
    if not text.isprintable():
        return False
    return text.isascii() or (not _needs_shaping(text) and _has(None, text))


def _needs_shaping(text: str) -> bool:
    """Whether letters change or move depending on their neighbors, as in Arabic, Hebrew and the scripts of India."""
    return any(
        unicodedata.bidirectional(letter) in ("R", "AL", "AN")
        or unicodedata.category(letter) in ("Mn", "Mc")
        or letter in _JOINERS
        for letter in text
    )


@cache
def _path_for(letters: frozenset[str], needs_shaping: bool) -> Path | None:
    visible = letters - set(_JOINERS)
    if not all(letter.isprintable() for letter in visible) or (needs_shaping and not features.check_feature("raqm")):
        return None
    text = "".join(sorted(visible))
    return next((path for path in _font_files() if _has(path, text) and _draws(path, text)), None)


def _draws(path: Path, text: str) -> bool:
    """Whether Pillow can render a font; fonts made of colored images have fixed sizes, or no outlines."""
    try:
        font = _system_font(path, _PROBE_PX)
        image = Image.new("L", (_PROBE_PX * (2 + len(text)), 2 * _PROBE_PX))
        ImageDraw.Draw(image).text((0, 0), text, fill=255, font=font)
    except (OSError, ValueError):
        return False
    return image.getbbox() is not None


@cache
def _font_files() -> tuple[Path, ...]:
    """The fonts of this system, plainest first, and those that come with Matplotlib."""
    found = {path for folder in _folders() for path in _files_below(folder) if path.suffix.lower() in _SUFFIXES}
    names = {path: path.stem.lower() for path in found if "lastresort" not in path.stem.lower()}
    fanciness = {path: sum(word in name for word in _FANCY) for path, name in names.items()}
    return tuple(sorted(names, key=lambda path: (fanciness[path], names[path], str(path))))


def _files_below(folder: Path) -> Iterator[Path]:
    for where, _, names in os.walk(folder, followlinks=True):
        yield from (Path(where, name) for name in names)


def _folders() -> list[Path]:
    home = Path.home()
    folders = [home / ".fonts", Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share") / "fonts"]
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    folders += [Path(each) / "fonts" for each in shared.split(":") if each]
    if sys.platform == "darwin":
        folders += [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    for variable, below in (("WINDIR", "Fonts"), ("LOCALAPPDATA", "Microsoft/Windows/Fonts")):
        if variable in os.environ:
            folders.append(Path(os.environ[variable]) / below)
    if (found := find_spec("matplotlib")) is not None and found.origin is not None:
        folders.append(Path(found.origin).parent / "mpl-data/fonts/ttf")
    return folders


def _has(font: Path | None, text: str) -> bool:
    return bool(np.isin([ord(letter) for letter in text], _letters(font)).all())


@cache
def _letters(path: Path | None) -> NDArray[np.int32]:
    """The code points with glyphs in a font, or in Pillow's own; none if it cannot be read."""
    from fontTools.ttLib import TTFont

    font = BytesIO(own_font(_PROBE_PX).font_bytes) if path is None else path
    try:
        with TTFont(font, lazy=True, fontNumber=0) as opened:
            known = opened.getBestCmap() or {}
    except Exception:  # damaged fonts raise errors of any type
        return np.empty(0, np.int32)
    # Last-resort fonts draw the same box for all letters of a script.
    if len(set(known.values())) < _OWN_GLYPHS * len(known):
        return np.empty(0, np.int32)
    return np.fromiter(known, np.int32, len(known))


@cache
def _system_font(path: Path, size_px: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size_px)
