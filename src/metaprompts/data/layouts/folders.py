"""Find the folders and list files of a data set, or raise an error that names the missing ones."""

from collections.abc import Sequence
from pathlib import Path

from metaprompts.data.io.list_files import (
    HOW_SEPARATED,
    listed_file,
    read_columns,
    report_duplicates,
    separator_hint,
)
from metaprompts.errors import InputError
from metaprompts.utils.files import is_file


def find_folder(candidates: Sequence[Path], *, what: str) -> Path:
    """The first existing folder.

    Args:
        candidates: at least one; the first is the official location and is named in the error
        what: the expected content of the folder, for example "the images of Cityscapes' split val"

    Raises:
        InputError: no candidate exists
    """
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise InputError(f"folder {candidates[0]} does not exist; expected {what}: correct data.root, or put them there")


def find_file(candidates: Sequence[Path], *, what: str) -> Path:
    """The first existing file.

    Args:
        candidates: at least one, all named in the error
        what: description of the file, for example "the list of KITTI's training images"

    Raises:
        InputError: no candidate exists
    """
    for path in candidates:
        if is_file(path):
            return path
    names = " or ".join(path.name for path in candidates)
    raise InputError(f"no {names} in {candidates[0].parent}; expected {what}: put it there, or correct data.root")


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
        if depth == "None":
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


OFFICIAL: dict[str, dict[str, int]] = {
    "ade20k": {"train": 20210, "val": 2000},
    "cityscapes": {"train": 2975, "train_extra": 19998, "val": 500, "test": 1525},
    "mapillary": {"train": 18000, "val": 2000, "test": 5000},
    "nyu": {"train": 24231, "val": 654},
    "nyu_mat": {"train": 795, "val": 654},
    # 697 images; 652 of them have annotated depth.
    "kitti": {"train": 23158, "val": 652, "val_selection": 1000},
    # People with keypoints, not images; boxes of the detections AP_H_56.
    "coco": {"train": 149813, "val": 6352, "val_boxes": 104125},
}

COCO_IMAGES = {"train": 118287, "val": 5000}
"""Number of images in the annotation files of COCO 2017, most without a person with keypoints."""
