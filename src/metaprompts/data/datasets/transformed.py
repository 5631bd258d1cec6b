"""A data set with random transforms, identical for any number of workers."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from metaprompts.data.sample import Sample, SampleDataset
from metaprompts.data.transforms.tensors import to_tensors
from metaprompts.data.transforms.transform import Transform
from metaprompts.errors import InputError


class Transformed(Dataset[dict[str, Tensor]]):
    """Apply transforms to every sample; random numbers depend only on seed, epoch and index.

    Args:
        dataset: the data set to read
        transforms: applied one after the other
        seed: 0 or more

    Raises:
        InputError: the seed is negative
    """

    def __init__(self, dataset: SampleDataset, transforms: Sequence[Transform], *, seed: int) -> None:
        if seed < 0:
            raise InputError(f"seed is {seed}; expected 0 or more")
        self.dataset = dataset
        self.transforms = tuple(transforms)
        self.seed = seed
        # Shared memory, so persistent workers see the next epoch's number.
        self._epoch = torch.zeros(1, dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, 0 or more, in this process and in all workers; call it between two epochs."""
        if epoch < 0:
            raise ValueError(f"epoch is {epoch}; expected 0 or more")
        self._epoch[0] = epoch

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Read and transform one sample, and convert it to tensors (see `to_tensors`)."""
        return to_tensors(self.sample(index))

    def sample(self, index: int) -> Sample:
        """Read and transform one sample.

        Raises:
            IndexError: no such sample
            InputError: a file is invalid
        """
        place = range(len(self))[index]
        epoch = int(self._epoch[0])
        generator = np.random.default_rng(np.random.SeedSequence((self.seed, epoch, place)))
        sample = replace(self.dataset[place], turn=place + epoch)
        for transform in self.transforms:
            sample = transform(sample, generator)
        return sample
