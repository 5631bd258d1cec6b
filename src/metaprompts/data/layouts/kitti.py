"""KITTI: raw images with annotated depth from list files, and the depth selection."""

import re
from pathlib import Path
from typing import Literal

from metaprompts.data.datasets.pairs import DepthPairs
from metaprompts.data.io.depth_files import DepthEncoding
from metaprompts.data.io.images import images_in
from metaprompts.data.io.list_files import pair_by_name
from metaprompts.data.layouts.folders import find_file, find_folder, read_depth_list
from metaprompts.errors import InputError

DEPTH_SCALE = 256.0
"""Depth files store meters times 256."""

_LISTS = {
    "train": ("train_list.txt", "eigen_train_files_with_gt.txt"),
    "val": ("test_list.txt", "eigen_test_files_with_gt.txt"),
}
_SELECTIONS = ("depth_selection/val_selection_cropped", "val_selection_cropped")
_NAME = re.compile(r"(.+_sync)_(?:image|groundtruth_depth)_(\d+_image_\d+)")


class KittiEigen(DepthPairs):
    """Images of ``raw_data/`` and depth of ``data_depth_annotated/``, from a list file of Eigen's split.

    Paths in two-column lists are relative to the root. In lists with the focal length, images are relative to raw_data,
    and depth maps to data_depth_annotated or to its train or val subfolder. Lines with ``None`` for depth are skipped.

    Args:
        root: the folder that contains raw_data, data_depth_annotated and the lists
        split: "train" (23158 pairs in the common list) or "val" (697 lines, 652 with depth)
        list_file: None for the first existing file with a common name

    Attributes:
        unmeasured: number of skipped lines

    Raises:
        InputError: a list, or a file listed in it, is missing, or a line is malformed
    """

    def __init__(self, root: Path, split: Literal["train", "val"], *, list_file: str | None = None) -> None:
        names = _LISTS[split] if list_file is None else (list_file,)
        path = find_file([root / name for name in names], what=f"the list of KITTI's Eigen split {split}")
        annotated = root / "data_depth_annotated"
        depth_roots = (annotated, annotated / "train", annotated / "val", root)
        pairs, self.unmeasured = read_depth_list(path, (root / "raw_data", root), depth_roots)
        super().__init__(pairs, DepthEncoding(depth_scale=DEPTH_SCALE))


class KittiSelection(DepthPairs):
    """The 1000 images of ``val_selection_cropped``, which are cropped to 352 x 1216.

    Args:
        root: the folder that contains depth_selection

    Raises:
        InputError: the folder is missing or empty, or a file has no counterpart
    """

    def __init__(self, root: Path) -> None:
        base = find_folder([root / name for name in _SELECTIONS], what="KITTI's depth selection")
        images, depths = (
            find_folder([base / name], what="KITTI's depth selection") for name in ("image", "groundtruth_depth")
        )
        pairs = pair_by_name(_by_frame(images), _by_frame(depths), f"{images} and {depths}")
        super().__init__(pairs, DepthEncoding(depth_scale=DEPTH_SCALE))


def _by_frame(folder: Path) -> dict[str, Path]:
    """Drive, frame and camera -> file."""
    found = {}
    for path in images_in(folder, (".png",)):
        match = _NAME.fullmatch(path.stem)
        found[f"{match[1]} {match[2]}" if match else path.stem] = path
    if not found:
        raise InputError(f"folder {folder} holds no PNG files: unpack KITTI's depth selection there")
    return found
