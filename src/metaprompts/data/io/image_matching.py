"""Match images on disk to the images of an annotation file, by name and, if necessary, by folders."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath

from metaprompts.data.io.list_files import same_form
from metaprompts.errors import InputError


def match_images(paths: Sequence[Path], names: Mapping[int, str], file: Path) -> dict[Path, int]:
    """Match images by file name, and by parent folders if several images share a name.

    Args:
        paths: paths of the images
        names: image id -> file name, with or without folders
        file: the annotation file, for errors

    Returns:
        path -> image id, for images in the file

    Raises:
        InputError: an image matches several entries, or several images match the same entry
    """
    known = {number: _parts(name) for number, name in names.items()}
    by_name: dict[str, list[int]] = defaultdict(list)
    for number, parts in known.items():
        by_name[parts[-1]].append(number)
    shared: dict[int, dict[Path, int]] = defaultdict(dict)
    for path in paths:
        # Links are not resolved: the file contains the unresolved names.
        parts = _parts(os.path.abspath(path))  # noqa: PTH100
        lengths = {number: _common(parts, known[number]) for number in by_name.get(parts[-1], ())}
        best = [number for number, length in lengths.items() if length == max(lengths.values())]
        if len(best) > 1:
            raise InputError(
                f"{path} may be image {best[0]} ({names[best[0]]}) or {best[1]} ({names[best[1]]}) of {file}: give "
                "images in the folders that the file names"
            )
        for number in best:
            shared[number][path] = lengths[number]
    return {_only(number, found, len(known[number]), file): number for number, found in shared.items()}


def match_numbers(paths: Sequence[Path], file: Path) -> dict[Path, int]:
    """Match images by COCO's convention: the name, or its part after the last underscore, is the image id.

    Args:
        paths: paths of the images
        file: the annotation file, for errors

    Returns:
        path -> image id, for images whose names end in a number

    Raises:
        InputError: several images have the same number
    """
    found: dict[int, Path] = {}
    for path in paths:
        digits = path.stem.split("_")[-1]
        if not (digits.isascii() and digits.isdecimal() and len(digits) <= 18):
            continue
        other = found.setdefault(int(digits), path)
        if other is not path:
            raise InputError(
                f"{other} and {path} are both image {int(digits)} of {file}, which identifies images by number: give "
                "images with different numbers, or a COCO file with a list of images"
            )
    return {path: number for number, path in found.items()}


def _only(number: int, found: Mapping[Path, int], parts: int, file: Path) -> Path:
    """The match of an image: the only candidate, or the only candidate with all of its folders."""
    whole = [path for path, length in found.items() if length == parts]
    if len(found) > 1 and (len(whole) != 1 or parts == 1):
        first, second = list(found)[:2]
        raise InputError(
            f"{first} and {second} are both image {number} of {file}, by name: list images there with their folders"
        )
    return whole[0] if whole else next(iter(found))


def _parts(name: str) -> tuple[str, ...]:
    """The parts of a path, which may be a Windows path, with accented letters normalized."""
    path = PurePosixPath(same_form(name.replace("\\", "/")))
    return path.parts or ("",)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """The number of trailing parts that are equal."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
