"""Pair images with label files, whose names may come from lists and from other file systems."""

import csv
import logging
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from metaprompts.data.io.images import IMAGE_SUFFIXES, images_in
from metaprompts.data.io.labels import DEPTH_SUFFIXES, LABEL_SUFFIXES
from metaprompts.errors import InputError
from metaprompts.utils.files import is_file, read_text
from metaprompts.utils.wording import counted, listed

logger = logging.getLogger(__name__)

HOW_SEPARATED = "with tabs between the columns if names have spaces"
_NAMED_AT_MOST = 5


def find_pairs(root: Path, images: str, labels: str | None) -> list[tuple[Path, Path]]:
    """Find pairs from a list file or from two folders.

    Args:
        root: folder that the other two paths are relative to
        images: a list file (then ``labels`` is None) or a folder of images
        labels: the folder of label files

    Returns:
        (image, label file) of every pair

    Raises:
        InputError: nothing was found, a line is malformed, or a file has no counterpart
    """
    place = root / images
    if labels is not None:
        return match_folders(place, root / labels)
    if place.is_dir():
        raise InputError(
            f"{place} is a folder of images, but no folder of labels is given: give both folders, or a list file"
        )
    return read_pairs(place, root)


def read_pairs(list_file: Path, root: Path) -> list[tuple[Path, Path]]:
    """Read a list file with one ``image label`` per line.

    See `read_columns` for separators and skipped lines, and `listed_file` for paths.

    Args:
        list_file: the list
        root: folder that the list's paths are relative to; absolute paths are also accepted

    Returns:
        (image, label file) of every line, in the list's order

    Raises:
        InputError: the list is missing or has no pairs, a line does not have exactly two paths, or a file does not
            exist; the message names the list and the line
    """
    pairs = []
    for number, names in read_columns(list_file):
        if len(names) != 2:
            raise InputError(
                f"{list_file}, line {number}: {len(names)} paths; expected `image label`, "
                f"{HOW_SEPARATED}{separator_hint(names)}"
            )
        image, label = (_find(root, name, list_file, number) for name in names)
        pairs.append((image, label))
    if not pairs:
        raise InputError(f"{list_file} names no images; expected one `image label` per line")
    report_duplicates(pairs, list_file)
    return pairs


def report_duplicates(pairs: Sequence[tuple[Path, Path]], list_file: Path) -> None:
    """Log how many lines repeat an image, or use the label file of another image.

    Repeated lines still count as samples.
    """
    if repeated := len(pairs) - len({image for image, _ in pairs}):
        others = len(set(pairs)) - len({image for image, _ in pairs})
        differing = f", {others} of them with a different label" if others else ""
        logger.warning(
            "%s: %s the image of another line%s",
            list_file,
            counted(repeated, "line repeats", "lines repeat"),
            differing,
        )
    unique = set(pairs)
    if shared := len(unique) - len({label for _, label in unique}):
        logger.warning("%s: %s the label file of another image", list_file, counted(shared, "line names", "lines name"))


def match_folders(images: Path, labels: Path) -> list[tuple[Path, Path]]:
    """Pair the files of two folders that have the same name up to the extension, subfolder by subfolder.

    Args:
        images: folder of images
        labels: folder of label files (gray or palette image, or ``.npy``)

    Returns:
        (image, label file) of every pair, sorted by image

    Raises:
        InputError: a folder is missing or empty, or files have no counterpart; the message names up to 5 of them
    """
    image_files = _by_name(images, IMAGE_SUFFIXES)
    label_files = _by_name(labels, LABEL_SUFFIXES | DEPTH_SUFFIXES)
    return pair_by_name(image_files, label_files, f"{images} and {labels}")


def pair_by_name(images: Mapping[str, Path], label_files: Mapping[str, Path], where: str) -> list[tuple[Path, Path]]:
    """Pair files that have the same name.

    Args:
        images: name -> image
        label_files: name -> label file
        where: folders of the files, for the error

    Returns:
        (image, label file) of every pair, in the images' order

    Raises:
        InputError: files have no counterpart; the message names up to 5 of them
    """
    lonely = sorted(images.keys() ^ label_files.keys())
    if lonely:
        files = [str(images.get(name) or label_files[name]) for name in lonely]
        named = listed(files, _NAMED_AT_MOST)
        raise InputError(
            f"{counted(len(files), 'file')} of {where} without a counterpart of the same name: {named}; "
            "add or remove files, or give a list file"
        )
    return [(image, label_files[name]) for name, image in images.items()]


def read_columns(list_file: Path) -> Iterator[tuple[int, list[str]]]:
    """Read the columns of a list file: separated by tabs or, in lines without tabs, by spaces.

    Names with spaces may be in double quotes. In .csv files commas separate columns, and a first row without a file
    name is a header. Blank lines and lines that begin with ``#`` are skipped.

    Yields:
        the line's number, from 1, and its columns

    Raises:
        InputError: the file cannot be read, or is not text
    """
    separates = _cells if list_file.suffix.lower() == ".csv" else _words
    lines = enumerate(map(str.strip, read_text(list_file).split("\n")), start=1)
    for place, (number, line) in enumerate((number, line) for number, line in lines if line and line[0] != "#"):
        try:
            columns = separates(line)
        except csv.Error as error:
            raise InputError(f"{list_file}, line {number}: {error}; expected names, {HOW_SEPARATED}") from error
        is_header = place == 0 and separates is _cells and not any("." in column for column in columns)
        if columns and not is_header:
            yield number, columns


def separator_hint(columns: Sequence[str]) -> str:
    """Hint for an error if a list seems to use the wrong column separator; may be empty."""
    found = next((sign for sign in ",;|" if any(sign in column for column in columns)), None)
    return "" if found is None else f"; {found} is not a separator here: use spaces or tabs, or commas in a .csv file"


def _words(line: str) -> list[str]:
    if "\t" in line:
        return [column.strip() for column in line.split("\t") if column.strip()]
    if '"' in line:
        (columns,) = csv.reader([line], delimiter=" ", skipinitialspace=True, strict=True)
        return [column for column in columns if column]
    return line.split()


def _cells(line: str) -> list[str]:
    (columns,) = csv.reader([line], skipinitialspace=True, strict=True)
    return [column.strip() for column in columns if column.strip()]


def _find(root: Path, name: str, list_file: Path, number: int) -> Path:
    path = listed_file(name, [root])
    # Report a missing file now instead of hours into a run.
    if path is None:
        raise InputError(
            f"{list_file}, line {number}: {root / name.lstrip('/')} does not exist; paths are relative to {root}, or "
            f"absolute; {HOW_SEPARATED}{separator_hint([name])}"
        )
    return path


def _by_name(folder: Path, suffixes: Iterable[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"folder {folder} does not exist: check the path")
    files: dict[str, Path] = {}
    for path in images_in(folder, suffixes, warn=True):
        name = same_form(path.relative_to(folder).with_suffix("").as_posix())
        if name in files:
            raise InputError(f"{files[name]} and {path} have the same name except for the suffix: keep one")
        files[name] = path
    if not files:
        raise InputError(f"folder {folder} holds no files with any of the suffixes {' '.join(sorted(suffixes))}")
    return files


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
