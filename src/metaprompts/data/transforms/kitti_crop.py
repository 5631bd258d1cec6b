"""KITTI's benchmark crop, applied to images and their depth before prediction."""

from dataclasses import dataclass

import numpy as np

from metaprompts.data.sample import Sample
from metaprompts.data.transforms.geometric import crop
from metaprompts.errors import InputError


@dataclass(frozen=True)
class KittiCrop:
    """Cut out the lowest rows and the middle columns, like the released code; a cropped image is unchanged.

    Args:
        height: height of the crop in pixels
        width: width of the crop in pixels
    """

    height: int = 352
    width: int = 1216

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """Crop.

        Raises:
            InputError: the image is smaller
        """
        del generator
        height, width = sample.image.shape[:2]
        if height < self.height or width < self.width:
            raise InputError(
                f"{sample.path} is {height}x{width}; KITTI's crop needs at least {self.height}x{self.width}: "
                "set test.kitti_crop false for other images"
            )
        return crop(sample, height - self.height, (width - self.width) // 2, self.height, self.width)
