"""Concatenated data sets."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from metaprompts.data.datasets.label_histogram import label_values
from metaprompts.data.io.label_tables import LabelValue
from metaprompts.data.sample import Sample, SampleDataset


class ConcatSamples:
    """The samples of several data sets, one data set after the other.

    Args:
        parts: the data sets to concatenate, at least one
    """

    def __init__(self, parts: Sequence[SampleDataset]) -> None:
        self._parts = tuple(parts)
        self._ends = list(accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        """Return the number of all samples."""
        return self._ends[-1]

    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            IndexError: no such sample
            InputError: a file is invalid
        """
        part, place = self._find(index)
        return part[place]

    def path(self, index: int) -> str:
        """The path of a sample's image."""
        part, place = self._find(index)
        return part.path(place)

    def files(self, index: int) -> tuple[Path, ...]:
        """The files of a sample."""
        part, place = self._find(index)
        return part.files(place)

    def label_values(self, index: int) -> list[LabelValue]:
        """The values of a sample's mask; see `label_histogram.label_values`."""
        part, place = self._find(index)
        return label_values(part, place)

    def _find(self, index: int) -> tuple[SampleDataset, int]:
        """The part that contains a sample, and the sample's index there."""
        place = range(len(self))[index]
        part = bisect_right(self._ends, place)
        return self._parts[part], place - (self._ends[part - 1] if part else 0)
