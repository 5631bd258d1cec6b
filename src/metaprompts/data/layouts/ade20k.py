"""ADE20K as the scene parsing challenge published it (ADEChallengeData2016)."""

from pathlib import Path
from typing import Literal

from metaprompts.data.datasets.segmentation import SegmentationPairs
from metaprompts.data.io.label_tables import label_table
from metaprompts.data.io.list_files import match_folders
from metaprompts.data.layouts.folders import find_folder
from metaprompts.errors import InputError

_CLASSES = 150
_FOLDERS = {"train": "training", "val": "validation"}


class Ade20k(SegmentationPairs):
    """``images/<split>/*.jpg`` and ``annotations/<split>/*.png`` with 0 = other (ignored), 1 to 150 = the classes.

    Args:
        root: ADEChallengeData2016, or its parent folder
        split: "train" (20210 images) or "val" (2000)
        classes: classes of the task; 150

    Raises:
        InputError: the classes differ, a folder is missing, or a file has no counterpart
    """

    def __init__(self, root: Path, split: Literal["train", "val"], *, classes: int = _CLASSES) -> None:
        if classes != _CLASSES:
            raise InputError(f"task.classes has {classes} classes; ADE20K has {_CLASSES}: name all of them")
        inner = root / "ADEChallengeData2016"
        base = inner if inner.is_dir() or not (root / "images").is_dir() else root
        folders = [base / kind / _FOLDERS[split] for kind in ("images", "annotations")]
        for folder, kind in zip(folders, ("images", "masks"), strict=True):
            find_folder([folder], what=f"the {kind} of ADE20K's split {split} (ADEChallengeData2016.zip)")
        super().__init__(match_folders(*folders), label_table(_CLASSES, reduce_zero_label=True))
