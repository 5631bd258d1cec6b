"""Images with class masks."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.datasets.pairs import FilePairs
from metaprompts.data.io.label_tables import (
    STORED_VALUES,
    UNKNOWN,
    ColorTable,
    LabelTable,
    LabelValue,
    classes_of,
    count_values,
    describe_expected,
    renumbered,
    value_name,
)
from metaprompts.data.io.labels import read_color_mask, read_index_mask
from metaprompts.data.io.orientation import read_pair
from metaprompts.data.sample import Sample
from metaprompts.errors import InputError
from metaprompts.utils.wording import listed

_NAMED_AT_MOST = 10


class SegmentationPairs(FilePairs):
    """Pairs of images and masks of class indices.

    Args:
        pairs: image and mask of each sample
        table: class of every stored value or color, see `label_table`
    """

    def __init__(self, pairs: Sequence[tuple[Path, Path]], table: LabelTable) -> None:
        super().__init__(pairs)
        self._table = table

    def __getitem__(self, index: int) -> Sample:
        """Read one image and its mask.

        Returns:
            a sample with ``labels`` 0 to classes - 1, and 255 where ignored

        Raises:
            InputError: a file is invalid, sizes differ, an EXIF orientation makes the alignment ambiguous, or the mask
                has values that are not classes
        """
        image_path, label_path = self._pairs[index]
        image, labels = read_pair(
            image_path, label_path, lambda path: _read_labels(path, self.table_of(path)), self.reading
        )
        return Sample(image=image, path=str(image_path), labels=labels)

    def label_values(self, index: int) -> list[LabelValue]:
        """The values of one mask, with their classes and pixels; the image is not read.

        Raises:
            InputError: the mask is invalid
        """
        _, label_path = self._pairs[index]
        table = self.table_of(label_path)
        return count_values(_read_stored(label_path, table), table)

    def renumber(self, order: Sequence[int]) -> None:
        """Renumber the classes.

        Args:
            order: the new number of each class
        """
        self._table = renumbered(self._table, order)

    def table_of(self, label_path: Path) -> LabelTable:
        """The table for one mask; data sets with several kinds of masks have several tables."""
        del label_path
        return self._table


def _read_labels(path: Path, table: LabelTable) -> NDArray[np.uint8]:
    """(H, W) the classes of a mask, 255 = ignored; an error if it holds values that are not classes."""
    stored = _read_stored(path, table)
    labels = classes_of(stored, table)
    if labels.min() == UNKNOWN:
        raise InputError(_describe_unknown(np.unique(stored[labels == UNKNOWN]), table, path))
    return labels.astype(np.uint8)


def _read_stored(path: Path, table: LabelTable) -> NDArray[Any]:
    """(H, W) the values of a mask, or its packed colors if the table maps colors."""
    if isinstance(table, ColorTable):
        return read_color_mask(path)
    stored = read_index_mask(path)
    if stored.dtype != np.uint8 and (stored.min() < 0 or stored.max() >= STORED_VALUES):
        raise InputError(f"label file {path} holds values from {stored.min()} to {stored.max()}; expected 0 to 65535")
    return stored


def _describe_unknown(values: NDArray[Any], table: LabelTable, path: Path) -> str:
    named = listed([value_name(int(value), table) for value in values], _NAMED_AT_MOST)
    cure = shlex.quote(f"{value_name(int(values[0]), table)}=CLASS")
    return (
        f"label file {path} holds {named}; expected {describe_expected(table)} or an ignored value: name all classes "
        f"in task.classes, or map it with --data.label_map {cure} (or =ignored)"
    )
