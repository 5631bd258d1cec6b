"""The list files of depth benchmarks: image, depth and, in some, the focal length."""

from collections.abc import Sequence
from pathlib import Path

from metaprompts.data.io.list_files import HOW_SEPARATED, listed_file, read_columns, report_duplicates, separator_hint
from metaprompts.errors import InputError

_NO_DEPTH = "None"


def read_depth_list(
    list_file: Path, image_roots: Sequence[Path], depth_roots: Sequence[Path]
) -> tuple[list[tuple[Path, Path]], int]:
    """Read ``image depth`` or ``image depth focal`` lines.

    See `read_columns` for separators and skipped lines. A leading ``/`` is dropped, and the focal length is ignored.

    Args:
        list_file: the list
        image_roots: folders that image paths may be relative to; the first one that contains the file is used
        depth_roots: like ``image_roots``, for depth files

    Returns:
        (image, depth file) of every line that has both; and the number of lines with ``None`` in place of a depth file

    Raises:
        InputError: the list is missing or has no pairs, a line is malformed, or a file does not exist; the message
            names the list and the line
    """
    pairs, unmeasured = [], 0
    for number, columns in read_columns(list_file):
        where = f"{list_file}, line {number}"
        image, depth = _names(columns, where)
        if depth == _NO_DEPTH:
            unmeasured += 1
        else:
            pairs.append((_find(image, image_roots, where), _find(depth, depth_roots, where)))
    if not pairs:
        raise InputError(f"{list_file} names no image with depth; expected one `image depth` per line")
    report_duplicates(pairs, list_file)
    return pairs, unmeasured


def _names(columns: Sequence[str], where: str) -> tuple[str, str]:
    if len(columns) not in (2, 3):
        raise InputError(
            f"{where}: {len(columns)} columns; expected `image depth` or `image depth focal`, "
            f"{HOW_SEPARATED}{separator_hint(columns)}"
        )
    if len(columns) == 3 and not _is_number(columns[2]):
        raise InputError(f"{where}: the third column is {columns[2]!r}; expected the focal length in pixels")
    return columns[0], columns[1]


def _is_number(word: str) -> bool:
    try:
        return float(word) > 0
    except ValueError:
        return False


def _find(name: str, roots: Sequence[Path], where: str) -> Path:
    path = listed_file(name, roots)
    if path is not None:
        return path
    places = ", ".join(map(str, roots))
    raise InputError(
        f"{where}: no file {name.lstrip('/')} in {places}: correct data.root, or the list{separator_hint([name])}"
    )
