"""Unicode normalization of file names from lists, tables and other file systems."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from metaprompts.utils.files import is_file


def same_form(name: str) -> str:
    """A name in composed Unicode form: macOS, and zip files created there, may store letters and accents separately."""
    return unicodedata.normalize("NFC", name)


def listed_file(name: str, roots: Sequence[Path]) -> Path | None:
    """The file that a list names; None if it does not exist.

    NYU's and KITTI's lists begin names with ``/``, which is dropped if that gives an existing file; otherwise the path
    is absolute. Backslashes count as Windows separators unless a file name contains them. Accented letters may be
    composed or decomposed.

    Args:
        name: the name as written in the list
        roots: folders that the name may be relative to; the first one that contains the file is used
    """
    for spelled in dict.fromkeys((name, name.replace("\\", "/"))):
        places = [root / spelled.lstrip("/") for root in roots]
        if os.path.isabs(spelled):  # noqa: PTH117
            places.append(Path(spelled))
        for place in places:
            if is_file(place):
                return place
        for root in roots:
            if (found := _in_other_form(root, spelled.lstrip("/"))) is not None:
                return found
    return None


def _in_other_form(root: Path, name: str) -> Path | None:
    if name.isascii():
        return None
    place = root
    for part in Path(name).parts:
        place = next((each for each in _spellings(place, part) if each.exists()), place / part)
    return place if is_file(place) else None


def _spellings(folder: Path, part: str) -> list[Path]:
    forms = [folder / part, *(folder / unicodedata.normalize(form, part) for form in ("NFC", "NFD"))]
    if part.isascii() or any(each.exists() for each in forms):
        return forms
    # Some names mix both forms.
    try:
        return [path for path in folder.iterdir() if same_form(path.name) == same_form(part)]
    except OSError:
        return []
