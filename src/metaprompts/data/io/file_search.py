"""Find files in folders by extension, and count skipped files."""

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path

from metaprompts.errors import InputError
from metaprompts.utils.wording import counted, listed

logger = logging.getLogger(__name__)

# Links between folders may lead to the same folder along very many paths.
_VISITS_AT_MOST = 16
_ENDINGS_NAMED_AT_MOST = 8
# The names of results that predict and heatmaps write.
_RESULT = re.compile(r"(.+)_(depth|depth_color|labels|overlay|skeleton|prompts|prompt\d{3})\.(?:png|mp4|webm)")


def find_files(
    folder: Path, suffixes: Iterable[str], *, without: Sequence[Path] = ()
) -> tuple[list[Path], Counter[str]]:
    """Search a folder recursively, following links; hidden files and folders are ignored.

    Args:
        folder: the folder to search
        suffixes: extensions to find, in lower case with the dot
        without: folders to exclude, however their paths are spelled

    Returns:
        the files, sorted, including broken links; and the number of skipped files per extension, in lower case with the
        dot

    Raises:
        InputError: a folder cannot be read, or links form a loop
    """
    endings = frozenset(suffixes)
    files, passed_over = [], Counter[str]()
    for path in walk_files(folder, without):
        if path.suffix.lower() in endings:
            files.append(path)
        else:
            passed_over[path.suffix.lower()] += 1
    return sorted(files), passed_over


def walk_files(folder: Path, without: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield all files of a folder recursively, like `find_files`; each folder's entries are sorted by name.

    Holds the names of one folder and its parents at a time. Broken links are also yielded.

    Args:
        folder: the folder to search
        without: folders to exclude, however their paths are spelled

    Raises:
        InputError: a folder cannot be read, or links form a loop
    """
    return _walk(folder, {os.path.realpath(each) for each in without}, (), Counter())


def check_outside(out: Path, folder: Path) -> None:
    """Check that the output folder is not searched for images.

    Args:
        out: the output folder
        folder: the folder that is searched recursively

    Raises:
        InputError: ``out`` is in the folder, however their paths are spelled
    """
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(folder)):
        raise InputError(
            f"output folder {out} lies in {folder}, which is searched for images and labels, so its images would be "
            "read as data: choose a folder outside"
        )


def warn_of_passed_over(passed_over: Counter[str], where: str) -> None:
    """Log the number of skipped files, and their extensions.

    Args:
        passed_over: extension -> count
        where: the folder of the skipped files
    """
    if not passed_over:
        return
    named = [f"{ending or 'none'} ({count})" for ending, count in sorted(passed_over.items())]
    logger.warning(
        "skipped %s in %s without an image suffix: %s",
        counted(passed_over.total(), "file"),
        where,
        listed(named, _ENDINGS_NAMED_AT_MOST),
    )


def without_results(images: Sequence[Path], where: str) -> list[Path]:
    """Drop results of predict and heatmaps if the image they belong to is in the list.

    Args:
        images: the found images
        where: the folder in which they were found
    """
    stems = {stem for path in images for stem in _stems(path)}
    matches = [_RESULT.fullmatch(path.name) for path in images]
    kept = [path for path, match in zip(images, matches, strict=True) if match is None or match[1] not in stems]
    if len(kept) < len(images):
        results = counted(len(images) - len(kept), "image")
        logger.warning("skipped %s in %s: named like the results of other files there", results, where)
    return kept


def _stems(path: Path) -> tuple[str, ...]:
    """Prefixes of result names."""
    stem, with_ending, folder = path.stem, f"{path.stem}_{path.suffix[1:]}", path.absolute().parent.name
    return stem, with_ending, f"{folder}_{stem}", f"{folder}_{with_ending}"


def _walk(folder: Path, left_out: set[str], above: tuple[str, ...], visits: Counter[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    # A link to a parent folder would cause an endless loop.
    if real in left_out or real in above:
        return
    visits[real] += 1
    if visits[real] > _VISITS_AT_MOST:
        raise InputError(f"links lead to folder {real} more than {_VISITS_AT_MOST} times: name its files in a list")
    try:
        with os.scandir(folder) as found:
            visible = [entry for entry in found if not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(f"folder {folder} cannot be read: {error.strerror}") from error
    for entry in sorted(visible, key=attrgetter("name")):
        if is_true(entry.is_dir):
            yield from _walk(folder / entry.name, left_out, (*above, real), visits)
        elif is_true(entry.is_file) or entry.is_symlink():
            yield folder / entry.name


def is_true(ask: Callable[[], bool]) -> bool:
    """Call a path predicate; False for a link to itself, a forbidden folder or a name that is too long."""
    try:
        return ask()
    except OSError:
        return False
