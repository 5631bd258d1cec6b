"""Data sets made of other data sets: concatenated, with captions or sky masks, or without unreadable samples."""

import logging
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.datasets.label_histogram import label_values
from metaprompts.data.io.label_tables import LabelValue
from metaprompts.data.io.labels import LABEL_SUFFIXES, read_index_mask
from metaprompts.data.sample import Sample, SampleDataset, check_same_size
from metaprompts.errors import InputError
from metaprompts.utils.files import is_file

logger = logging.getLogger(__name__)


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


class SkipBadSamples(View):
    """A data set that replaces each unreadable sample with the next good one.

    The replacement does not depend on order or workers. Each bad sample is logged once per reader process.

    Args:
        samples: the data set to read
        at_most: maximum number of bad samples
    """

    def __init__(self, samples: SampleDataset, at_most: int) -> None:
        import torch

        super().__init__(samples)
        self._at_most = at_most
        # Shared memory, in which each worker marks bad samples, so that no sample is counted twice.
        self._is_bad = torch.zeros(len(samples), dtype=torch.uint8)
        self._is_bad.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def bad(self) -> list[int]:
        """The indices of bad samples found by this process or its workers."""
        places: list[int] = self._is_bad.nonzero().flatten().tolist()
        return places

    def note(self, places: Iterable[int]) -> None:
        """Mark bad samples found by other processes or before the run was stopped."""
        self._is_bad[list(places)] = 1

    def __getitem__(self, index: int) -> Sample:
        """Read a sample, or the next good one.

        Raises:
            InputError: too many samples are invalid
        """
        place = range(len(self))[index]
        while True:
            try:
                return self.samples[place]
            except InputError as error:
                self._pass_over(place, error)
            place = (place + 1) % len(self)

    def _pass_over(self, place: int, error: InputError) -> None:
        if not self._is_bad[place]:
            self._is_bad[place] = 1
            logger.warning("skipping a bad sample: %s", error)
        if (skipped := len(self.bad)) > min(self._at_most, len(self) - 1):
            raise InputError(
                f"{skipped} of {len(self)} training samples cannot be read, but data.max_bad_samples is "
                f"{self._at_most}; the last: {error}"
            ) from error


class WithSky(View):
    """Depth samples with infinite depth in the sky, which no sensor measures.

    Args:
        samples: samples that have ``depth_m``
        masks: the sky mask of each sample
        sky_class: mask value of the sky; if None, every value above 0 is sky
    """

    def __init__(self, samples: SampleDataset, masks: Sequence[Path], sky_class: int | None) -> None:
        super().__init__(samples)
        self._masks, self._sky_class = list(masks), sky_class

    def files(self, index: int) -> tuple[Path, ...]:
        """A sample's files, including its sky mask."""
        return (*super().files(index), self._masks[index])

    def __getitem__(self, index: int) -> Sample:
        """Read a sample; its depth is infinite in the sky.

        Raises:
            InputError: a file is invalid, or sizes differ
        """
        sample = super().__getitem__(index)
        assert sample.depth_m is not None
        mask = read_index_mask(self._masks[index])
        check_same_size(sample.image, mask, Path(sample.path), self._masks[index])
        is_sky: NDArray[np.bool_] = mask > 0 if self._sky_class is None else mask == self._sky_class
        return replace(sample, depth_m=np.where(is_sky, np.float32(np.inf), sample.depth_m))


def with_sky(samples: SampleDataset, folder: Path, sky_class: int | None) -> WithSky:
    """Find the sky mask of each sample: the file in ``folder`` with the image's name, apart from the extension.

    For an image a/b/c.jpg this is the first existing file of a/b/c.png, b/c.png and c.png.

    Raises:
        InputError: the folder or a mask is missing, or two images share a mask
    """
    if not folder.is_dir():
        raise InputError(f"data.sky {folder} does not exist: give the folder of masks, relative to data.root, or none")
    masks = [_mask_of(Path(samples.path(index)), folder) for index in range(len(samples))]
    owners: dict[Path, str] = {}
    for index, mask in enumerate(masks):
        owner, image = owners.setdefault(mask, samples.path(index)), samples.path(index)
        if owner != image:
            raise InputError(
                f"{owner} and {image} have the same sky mask, {mask}: put masks into the same subfolders as the images"
            )
    return WithSky(samples, masks, sky_class)


def _mask_of(image: Path, folder: Path) -> Path:
    parts = image.relative_to(image.anchor).with_suffix("").parts
    for first in range(len(parts)):
        for suffix in sorted(LABEL_SUFFIXES):
            mask = folder.joinpath(*parts[first:-1], parts[-1] + suffix)
            if is_file(mask):
                return mask
    raise InputError(f"{image} has no sky mask {image.stem}.png in data.sky {folder}: add one, or set data.sky none")
