"""Cityscapes: fine, coarse and automatic labels."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from metaprompts.data.datasets.segmentation import SegmentationPairs
from metaprompts.data.io.images import IMAGE_SUFFIXES, images_in
from metaprompts.data.io.label_tables import LabelTable, id_table, renumbered
from metaprompts.data.io.labels import LABEL_SUFFIXES
from metaprompts.data.io.list_files import pair_by_name
from metaprompts.data.layouts.folders import find_folder
from metaprompts.errors import InputError

CityscapesSplit = Literal["train", "val", "train_extra"]

CLASS_OF_ID = {
    **{7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10},
    **{24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18},
}
"""The 19 training classes by id; all other ids are ignored."""

_CLASSES = 19
_LAST_ID = 33
_IMAGE = "_leftImg8bit"
_MASK = re.compile(r"(.+?)(?:_gt[A-Za-z]+)?_(labelTrainIds|labelIds|leftImg8bit)")


class Cityscapes(SegmentationPairs):
    """``leftImg8bit/<split>/<city>/*_leftImg8bit.png`` and masks in ``<labels>/<split>/<city>/``.

    Masks are ``*_labelTrainIds.png`` (0 to 18, 255 = ignored) or, if missing, ``*_labelIds.png``, whose ids 0 to 33 are
    mapped to the 19 classes. Automatic labels may have the image's own name, ``*_leftImg8bit.png``, and contain ids.

    Args:
        root: the folder that contains leftImg8bit
        split: "train" (2975 images), "val" (500) or "train_extra" (19998)
        labels: folder of the masks: gtFine, gtCoarse, or the folder of automatic labels, with or without a subfolder
            ``split``
        classes: classes of the task; 19

    Raises:
        InputError: the classes differ, a folder is missing, or a file has no counterpart
    """

    def __init__(self, root: Path, split: CityscapesSplit, *, labels: str = "gtFine", classes: int = _CLASSES) -> None:
        if classes != _CLASSES:
            raise InputError(f"task.classes has {classes} classes; Cityscapes has {_CLASSES}: name all of them")
        images = find_folder([root / "leftImg8bit" / split], what=f"the images of Cityscapes' split {split}")
        # Officially each split has its own folder; automatic labels of train_extra may lack it.
        candidates = [root / labels / split, *([root / labels] if split == "train_extra" else [])]
        masks = find_folder(candidates, what=f"the masks of Cityscapes' split {split}")
        pairs = pair_by_name(_images(images), _masks(masks), f"{images} and {masks}")
        ignored = [number for number in (*range(_LAST_ID + 1), 255) if number not in CLASS_OF_ID]
        super().__init__(pairs, id_table(CLASS_OF_ID, ignored))
        self._train_table: LabelTable = id_table({number: number for number in range(_CLASSES)}, [255])

    def renumber(self, order: Sequence[int]) -> None:
        """Renumber the classes in both kinds of masks."""
        super().renumber(order)
        self._train_table = renumbered(self._train_table, order)

    def table_of(self, label_path: Path) -> LabelTable:
        """The table of the 19 classes for ``*_labelTrainIds.png``, else the table of label ids."""
        return self._train_table if label_path.stem.endswith("_labelTrainIds") else self._table


def _images(folder: Path) -> dict[str, Path]:
    """City and name, up to the frame -> image."""
    found = {
        _key(folder, path, path.stem.removesuffix(_IMAGE)): path
        for path in images_in(folder, IMAGE_SUFFIXES)
        if path.stem.endswith(_IMAGE)
    }
    if not found:
        raise InputError(f"folder {folder} holds no images named *{_IMAGE}.png: unpack them there")
    return found


def _masks(folder: Path) -> dict[str, Path]:
    """City and name, up to the frame -> mask; labelTrainIds are preferred to labelIds."""
    found: dict[str, Path] = {}
    for path in images_in(folder, LABEL_SUFFIXES):
        match = _MASK.fullmatch(path.stem)
        if match:
            key = _key(folder, path, match[1])
            if key not in found or match[2] == "labelTrainIds":
                found[key] = path
    if not found:
        raise InputError(
            f"folder {folder} holds no masks named *_labelTrainIds.png or *_labelIds.png: unpack them there"
        )
    return found


def _key(folder: Path, path: Path, name: str) -> str:
    return (path.relative_to(folder).parent / name).as_posix()
