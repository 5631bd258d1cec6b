"""Find the folders of a data set, or raise an error that names the missing folder and its source."""

from collections.abc import Sequence
from pathlib import Path

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
        what: name of the searched file, for example "the list of KITTI's training images"

    Raises:
        InputError: no candidate exists
    """
    for path in candidates:
        if is_file(path):
            return path
    names = " or ".join(path.name for path in candidates)
    raise InputError(f"no {names} in {candidates[0].parent}; expected {what}: put it there, or correct data.root")


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
