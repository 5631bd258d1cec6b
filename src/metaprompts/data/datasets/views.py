"""Data sets made of other data sets: concatenated, or with encoded captions."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.datasets.label_histogram import label_values
from metaprompts.data.io.label_tables import LabelValue
from metaprompts.data.sample import Sample, SampleDataset


class View(SampleDataset):
    """The samples of another data set, unchanged; the base of data sets that change, choose or join samples.

    Args:
        samples: the data set to read
    """

    def __init__(self, samples: SampleDataset) -> None:
        self.samples = samples

    def _find(self, index: int) -> tuple[SampleDataset, int]:
        """The data set that holds a sample, and the sample's index there."""
        return self.samples, index

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        """Read one sample.

        Raises:
            IndexError: no such sample
            InputError: a file is invalid
        """
        samples, place = self._find(index)
        return samples[place]

    def path(self, index: int) -> str:
        """The path of a sample's image."""
        samples, place = self._find(index)
        return samples.path(place)

    def files(self, index: int) -> tuple[Path, ...]:
        """The files of a sample."""
        samples, place = self._find(index)
        return samples.files(place)

    def label_values(self, index: int) -> list[LabelValue]:
        """The values of a sample's mask; see `label_histogram.label_values`."""
        return label_values(*self._find(index))


class ConcatSamples(View):
    """The samples of several data sets, one data set after the other.

    Args:
        parts: the data sets to concatenate, at least one
    """

    def __init__(self, parts: Sequence[SampleDataset]) -> None:
        self._parts = tuple(parts)
        self._ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def _find(self, index: int) -> tuple[SampleDataset, int]:
        place = range(len(self))[index]
        part = bisect_right(self._ends, place)
        return self._parts[part], place - (self._ends[part - 1] if part else 0)


class ContextOf(Protocol):
    """A store of encoded captions, by image path."""

    def __call__(self, path: str) -> NDArray[np.float32]:
        """The tokens (L, D) of an image's caption."""
        ...

    def file(self, path: str) -> Path:
        """The file that holds the tokens; each caption has its own file."""
        ...


class Captioned(View):
    """A data set whose samples have a ``context``.

    Args:
        samples: the data set to read
        context_of: called for each sample that is read; must be picklable
    """

    def __init__(self, samples: SampleDataset, context_of: ContextOf) -> None:
        super().__init__(samples)
        self._context_of = context_of

    def files(self, index: int) -> tuple[Path, ...]:
        """The files of a sample, including its encoded caption.

        Raises:
            InputError: there is no caption
        """
        return (*super().files(index), self._context_of.file(self.path(index)))

    def __getitem__(self, index: int) -> Sample:
        """Read one sample and its context.

        Raises:
            InputError: a file is invalid, or there is no caption
        """
        sample = super().__getitem__(index)
        return replace(sample, context=self._context_of(sample.path))
