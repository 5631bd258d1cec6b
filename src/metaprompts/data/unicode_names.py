"""Unicode normalization of file names from lists, tables and other file systems."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from metaprompts.utils.files import is_file


def same_form(name: str) -> str:
    """A name in the composed Unicode form: macOS and zip files made there have letters and accents apart."""
    return unicodedata.normalize("NFC", name)


def listed_file(name: str, roots: Sequence[Path]) -> Path | None:
    """The file that a list names; None if it does not exist.

    Lists of NYU and KITTI begin their names with ``/``, so it is dropped where that leads to a file; else the path is
    absolute. Backslashes are those of Windows where no name has them. Letters with accents may be composed or not.

    Args:
        name: as the list has it
        roots: folders that it may be relative to; the first where the file is, is taken
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
    # Some names are in neither form as a whole.
    try:
        return [path for path in folder.iterdir() if same_form(path.name) == same_form(part)]
    except OSError:
        return []
