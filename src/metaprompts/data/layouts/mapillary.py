"""Mapillary Vistas 1.2 and 2.0, with their own classes or those of Cityscapes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.datasets.segmentation import SegmentationPairs
from metaprompts.data.io.label_tables import id_table
from metaprompts.data.io.list_files import match_folders
from metaprompts.data.layouts.folders import find_folder
from metaprompts.errors import InputError
from metaprompts.utils.files import read_json

VistasVersion = Literal["v1.2", "v2.0"]

IDS_OF_CITYSCAPES: tuple[tuple[int, ...], ...] = (
    *((13, 24, 41), (2, 15), (17,), (6,), (3,), (45, 47), (48,), (50,), (30,), (29,), (27,)),
    *((19,), (20, 21, 22), (55,), (61,), (54,), (58,), (57,), (52,)),
)
"""Labels of Vistas 1.2 that make up each of the 19 classes of Cityscapes, as in the released code."""

_FOLDERS = {"train": "training", "val": "validation"}
_LABELS = {"v1.2": 66, "v2.0": 124}
# Labels that the data set's own config files exclude from evaluation: unlabeled and, in 2.0, ambiguous and group
# labels.
_VOID = {"v1.2": (65,), "v2.0": (2, 31, 38, 79, 86, 96, 115, 123)}


class Mapillary(SegmentationPairs):
    """``<split>/images/*.jpg`` and ``<split>/<version>/labels/*.png``.

    Also reads release 1.2, which had no folder ``<version>``.

    Args:
        root: the folder that contains training and validation
        split: "train" (18000 images) or "val" (2000)
        classes: classes of the task: all labels (66, 124), or the evaluated labels (65, 116), in their order; 19 if
            ``as_cityscapes``
        version: version of the labels
        as_cityscapes: map labels of 1.2 to the 19 classes of Cityscapes

    Raises:
        InputError: the classes differ, a folder is missing, or a file has no counterpart
    """

    def __init__(
        self,
        root: Path,
        split: Literal["train", "val"],
        *,
        classes: int,
        version: VistasVersion = "v1.2",
        as_cityscapes: bool = False,
    ) -> None:
        base = root / _FOLDERS[split]
        what = f"of Mapillary Vistas' split {split}"
        images = find_folder([base / "images"], what=f"the images {what}")
        candidates = [base / version / "labels", *([base / "labels"] if version == "v1.2" else [])]
        masks = find_folder(candidates, what=f"the masks of version {version} {what}")
        table = _cityscapes_table(classes) if as_cityscapes else _own_table(classes, version)
        super().__init__(match_folders(images, masks), table)


def vistas_classes(root: Path, version: VistasVersion, classes: Sequence[str]) -> list[str] | None:
    """Names of the labels, from the data set's own config file.

    Args:
        root: the folder that contains training and validation
        version: version of the labels
        classes: classes of the task: all labels or the evaluated labels, under their names in the file or their
            readable names

    Returns:
        their names in order; None if there is no readable file with this number of labels
    """
    path = root / f"config_{version}.json"
    content = read_json(path) if path.is_file() else None
    labels = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(labels, list) or not all(isinstance(label, dict) and "name" in label for label in labels):
        return None
    readable = [str(label.get("readable", "")) for label in labels]
    names = readable if set(classes) <= set(readable) else [str(label["name"]) for label in labels]
    evaluated = [name for number, name in enumerate(names) if number not in _VOID[version]]
    return next((found for found in (names, evaluated) if len(found) == len(classes)), None)


def _cityscapes_table(classes: int) -> NDArray[np.int16]:
    if classes != len(IDS_OF_CITYSCAPES):
        raise InputError(f"task.classes has {classes} classes; expected the 19 of Cityscapes with data.as_cityscapes")
    found = {number: place for place, ids in enumerate(IDS_OF_CITYSCAPES) for number in ids}
    return id_table(found, range(_LABELS["v1.2"]))


def _own_table(classes: int, version: VistasVersion) -> NDArray[np.int16]:
    labels, void = range(_LABELS[version]), _VOID[version]
    if classes == len(labels):
        return id_table({number: number for number in labels}, [])
    evaluated = [number for number in labels if number not in void]
    if classes != len(evaluated):
        raise InputError(
            f"task.classes has {classes} classes; Mapillary Vistas {version} has {len(labels)} labels, and "
            f"{len(evaluated)} of them are evaluated: name all labels or the evaluated ones"
        )
    return id_table({number: place for place, number in enumerate(evaluated)}, void)
