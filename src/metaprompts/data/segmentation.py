"""Pictures with a class for every pixel."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.labels import read_index_mask
from metaprompts.data.lists import find_pairs
from metaprompts.data.pictures import read_picture
from metaprompts.data.samples import IGNORED_LABEL, Sample
from metaprompts.data.sizes import refuse_other_size
from metaprompts.errors import InputError

_STORED_VALUES = 65536
_UNKNOWN = -1
_NAMED_AT_MOST = 10


class SegmentationPairs:
    """Pictures and masks of class indices, whose files are known.

    Args:
        pairs: picture and mask of each sample
        table: (65536,) class of every stored value, see `label_table`
    """

    def __init__(self, pairs: Sequence[tuple[Path, Path]], table: NDArray[np.int16]) -> None:
        self._pairs = list(pairs)
        self._table = table

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._pairs)

    def path(self, index: int) -> str:
        """The path of a sample's picture."""
        return str(self._pairs[index][0])

    def files(self, index: int) -> tuple[Path, ...]:
        """A sample's picture and mask."""
        return self._pairs[index]

    def __getitem__(self, index: int) -> Sample:
        """Read one picture and its mask.

        Returns:
            a sample with ``labels`` 0 to classes - 1, and 255 where ignored

        Raises:
            InputError: a file is bad, sizes differ, or the mask holds values that are no class
        """
        image_path, label_path = self._pairs[index]
        image = read_picture(image_path)
        labels = read_labels(label_path, self.table_of(label_path))
        refuse_other_size(image, labels, image_path, label_path)
        return Sample(image=image, path=str(image_path), labels=labels)

    def table_of(self, label_path: Path) -> NDArray[np.int16]:
        """The table for one mask; data sets with several kinds of masks have several."""
        del label_path
        return self._table


class SegmentationFolder(SegmentationPairs):
    """Pictures and masks of class indices, found by a list file or in two folders.

    Args:
        root: folder that everything is relative to
        images: list file of ``image label`` lines (then ``labels`` is None), or folder of pictures
        labels: folder of masks, matched to the pictures by name
        classes: how many classes there are, 1 to 255
        ignore_index: value in the files that means "ignore"
        ignored: further values in the files that are ignored
        reduce_zero_label: the files hold 0 = ignore and 1 to ``classes`` (ADE20K); each becomes one less

    Raises:
        InputError: nothing found, files without partner, or ``classes`` out of range
    """

    def __init__(
        self,
        root: str | Path,
        images: str,
        labels: str | None = None,
        *,
        classes: int,
        ignore_index: int = 255,
        ignored: Sequence[int] = (),
        reduce_zero_label: bool = False,
    ) -> None:
        if not 1 <= classes <= IGNORED_LABEL:
            raise InputError(f"classes is {classes}; expected 1 to {IGNORED_LABEL}")
        self.classes = classes
        table = label_table(classes, {ignore_index, *ignored}, reduce_zero_label=reduce_zero_label)
        super().__init__(find_pairs(Path(root), images, labels), table)


def read_labels(path: Path, table: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Read a mask and turn stored values into classes.

    Args:
        path: the mask
        table: (65536,) class of every stored value, see `label_table`

    Returns:
        (H, W) 0 to classes - 1, 255 = ignored

    Raises:
        InputError: the file is bad, or holds values that are no class
    """
    stored = read_index_mask(path)
    if stored.dtype != np.uint8 and (stored.min() < 0 or stored.max() >= _STORED_VALUES):
        raise InputError(f"label file {path} holds values from {stored.min()} to {stored.max()}; expected 0 to 65535")
    labels = table[stored]
    if labels.min() == _UNKNOWN:
        raise InputError(_describe_unknown(np.unique(stored[labels == _UNKNOWN]), table, path))
    return labels.astype(np.uint8)


def _describe_unknown(values: NDArray[Any], table: NDArray[np.int16], path: Path) -> str:
    named = ", ".join(str(value) for value in values[:_NAMED_AT_MOST]) + (
        ", ..." if len(values) > _NAMED_AT_MOST else ""
    )
    wanted = np.flatnonzero((table >= 0) & (table < IGNORED_LABEL))
    return (
        f"label file {path} holds {named}; expected classes {wanted.min()} to {wanted.max()} or an ignored value: "
        "correct the file, the number of classes or the ignored values"
    )


def label_table(classes: int, ignored: set[int], *, reduce_zero_label: bool) -> NDArray[np.int16]:
    """Build the table from stored value to class.

    Args:
        classes: how many classes there are
        ignored: stored values that become 255, even where they would be a class
        reduce_zero_label: stored 0 is ignored and stored 1 to ``classes`` become 0 to classes - 1

    Returns:
        (65536,) int16: 0 to classes - 1, 255 = ignored, -1 = no class

    Raises:
        InputError: an ignored value is outside 0 to 65535
    """
    outside = [value for value in ignored if not 0 <= value < _STORED_VALUES]
    if outside:
        raise InputError(f"ignored label value {outside[0]} is outside 0 to 65535")
    table = np.full(_STORED_VALUES, _UNKNOWN, dtype=np.int16)
    first = 1 if reduce_zero_label else 0
    table[first : first + classes] = np.arange(classes)
    table[sorted(ignored | ({0} if reduce_zero_label else set()))] = IGNORED_LABEL
    return table


def id_table(classes: Mapping[int, int], ignored: Iterable[int]) -> NDArray[np.int16]:
    """Build the table of a data set that numbers its labels in its own way.

    Args:
        classes: stored value -> class
        ignored: stored values that become 255

    Returns:
        (65536,) int16: the class, 255 = ignored, -1 = no class
    """
    table = np.full(_STORED_VALUES, _UNKNOWN, dtype=np.int16)
    table[list(ignored)] = IGNORED_LABEL
    table[list(classes)] = list(classes.values())
    return table
