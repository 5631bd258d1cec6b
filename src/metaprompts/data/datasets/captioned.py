"""Samples with encoded captions of their images."""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.sample import Sample, SampleDataset


class ContextOf(Protocol):
    """A store of encoded captions, by image path."""

    def __call__(self, path: str) -> NDArray[np.float32]:
        """The tokens (L, D) of an image's caption."""
        ...

    def file(self, path: str) -> Path:
        """The file that holds the tokens; each caption has its own file."""
        ...


class Captioned:
    """A data set whose samples have a ``context``.

    Args:
        samples: the data set to read
        context_of: called for each sample that is read; must be picklable
    """

    def __init__(self, samples: SampleDataset, context_of: ContextOf) -> None:
        self.samples = samples
        self._context_of = context_of

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def path(self, index: int) -> str:
        """The path of a sample's image."""
        return self.samples.path(index)

    def files(self, index: int) -> tuple[Path, ...]:
        """The files of a sample, including its encoded caption.

        Raises:
            InputError: there is no caption
        """
        return (*self.samples.files(index), self._context_of.file(self.samples.path(index)))

    def __getitem__(self, index: int) -> Sample:
        """Read one sample and its context.

        Raises:
            InputError: a file is invalid, or there is no caption
        """
        sample = self.samples[index]
        return replace(sample, context=self._context_of(sample.path))
