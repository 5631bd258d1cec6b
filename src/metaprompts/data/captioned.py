"""Samples with what a text encoder made of their pictures' captions."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.samples import Sample, SampleDataset

ContextOf = Callable[[str], NDArray[np.float32]]
"""The path of a picture -> its caption's tokens (L, D)."""


class Captioned:
    """A data set whose samples have a ``context``.

    Args:
        samples: what is read
        context_of: is asked for each sample that is read; must survive pickling
    """

    def __init__(self, samples: SampleDataset, context_of: ContextOf) -> None:
        self.samples = samples
        self._context_of = context_of

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    def path(self, index: int) -> str:
        """The path of a sample's picture."""
        return self.samples.path(index)

    def files(self, index: int) -> tuple[Path, ...]:
        """The files of a sample, but for its caption."""
        return self.samples.files(index)

    def __getitem__(self, index: int) -> Sample:
        """Read one sample and its context.

        Raises:
            InputError: a file is bad, or there is no caption
        """
        sample = self.samples[index]
        return replace(sample, context=self._context_of(sample.path))
