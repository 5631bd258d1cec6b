"""The workload of a benchmark."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from metaprompts.errors import InputError
from metaprompts.models.config import ModelConfig

_BLOCK = 64
_CROP_MULTIPLE = 8
_COARSE = 16


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Images to predict, and the size of the model.

    Attributes:
        size: (height, width) of an image, or of one of its windows if there are several
        working_size: (height, width) to whose area images are resized, as in config.json; None to keep their own size
        batch: batch size, B
        steps: number of steps, K
        prompts: number of prompts, N
        windows: square windows along an image, predicted one after the other
    """

    size: tuple[int, int]
    working_size: tuple[int, int] | None
    batch: int
    steps: int
    prompts: int
    windows: int = 1

    def at(self, size: tuple[int, int]) -> "Workload":
        """The same workload with images of a different size, which `seen_size` rounds."""
        return replace(self, size=size, working_size=None if self.working_size is None else seen_size(size))

    def images(self) -> list[NDArray[np.uint8]]:
        """B images (H, W, 3), smooth and all different, each wide enough for all windows side by side."""
        height, width = self.size
        return [_image(seed, height, width * self.windows) for seed in range(self.batch)]

    def full_working_size(self) -> tuple[int, int] | None:
        """The working size of the whole image with all of its windows."""
        return None if self.working_size is None else (self.working_size[0], self.working_size[1] * self.windows)


def workload_for(
    config: ModelConfig, size: tuple[int, int] | None, *, default: tuple[int, int], batch: int
) -> Workload:
    """The default workload.

    Args:
        config: config of the model
        size: (height, width) of the image; None for the model's training size
        default: size for models without a stored training size
        batch: batch size, B

    Raises:
        InputError: the image is too small or empty
    """
    if batch < 1:
        raise InputError(f"--batch-size is {batch}; expected at least 1")
    working_size = config.working_size
    if (crop := config.task.input_size) is not None:
        size = size or crop
        working_size = None
    elif size is not None or working_size is None:
        size = size or default
        working_size = seen_size(size)
    else:
        size = working_size
    if min(size) < _BLOCK:
        raise InputError(f"--size is {size[0]} {size[1]}; expected at least {_BLOCK} each")
    if crop is not None and any(side % _CROP_MULTIPLE for side in size):
        raise InputError(f"--size is {size[0]} {size[1]}; expected multiples of 8: pose predicts crops of this size")
    return Workload(
        size=size,
        working_size=working_size,
        batch=batch,
        steps=config.refinement.steps,
        prompts=config.prompts.count,
    )


def config_for(config: ModelConfig, workload: Workload) -> ModelConfig:
    """A model's config with the prompts, and for pose the crops, of a workload."""
    if workload.prompts != config.prompts.count:
        config = replace(config, prompts=replace(config.prompts, count=workload.prompts))
    return replace(config, task=config.task.with_input_size(workload.size))


def seen_size(size: Sequence[int]) -> tuple[int, int]:
    """A size rounded down to multiples of 64. Depth models then add a margin: 480 becomes 448 and then 512."""
    return size[0] // _BLOCK * _BLOCK, size[1] // _BLOCK * _BLOCK


def _image(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (_COARSE, _COARSE, 3), dtype=np.uint8)
    image: NDArray[np.uint8] = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return image
