"""NYU Depth v2 in the layout of depth estimation code: sync for training, official_splits for testing."""

from pathlib import Path
from typing import Literal

from metaprompts.data.datasets.depth import DepthPairs
from metaprompts.data.io.depth_files import DepthEncoding
from metaprompts.data.layouts.depth_lists import read_depth_list
from metaprompts.data.layouts.folders import find_file, find_folder

DEPTH_SCALE = 1000.0
"""Depth files store millimeters."""

_FOLDERS = {"train": "sync", "val": "official_splits/test"}
_LISTS = {
    "train": ("train_list.txt", "nyudepthv2_train_files_with_gt.txt"),
    "val": ("test_list.txt", "nyudepthv2_test_files_with_gt.txt"),
}


class NyuDepth(DepthPairs):
    """Images and depth of ``sync/`` or ``official_splits/test/``, from a list file.

    Args:
        root: the folder that contains sync, official_splits and the lists
        split: "train" (24231 pairs in the common list) or "val" (654)
        list_file: list with two or three columns; None for the first existing file with a common name

    Raises:
        InputError: a folder, a list, or a file listed in it, is missing, or a line is malformed
    """

    def __init__(self, root: Path, split: Literal["train", "val"], *, list_file: str | None = None) -> None:
        folder = find_folder([root / _FOLDERS[split]], what=f"images and depth of NYU v2's split {split}")
        names = _LISTS[split] if list_file is None else (list_file,)
        path = find_file([root / name for name in names], what=f"the list of NYU v2's split {split}")
        found = read_depth_list(path, (folder, root), (folder, root))
        super().__init__(found.pairs, DepthEncoding(depth_scale=DEPTH_SCALE))
        self.unmeasured = found.unmeasured
