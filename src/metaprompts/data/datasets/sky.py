"""Depth data with sky masks; no sensor measures the sky, which is farther away than anything else."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.datasets.views import View
from metaprompts.data.io.labels import LABEL_SUFFIXES, read_index_mask
from metaprompts.data.sample import Sample, SampleDataset, check_same_size
from metaprompts.errors import InputError
from metaprompts.utils.files import is_file


class WithSky(View):
    """Depth samples with infinite depth in the sky.

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
