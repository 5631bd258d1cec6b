"""Resize only the image, for predictions that are compared at the labels' own size."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from metaprompts.data.sample import Sample
from metaprompts.data.transforms.geometric import keep_aspect


@dataclass(frozen=True)
class ResizeImage:
    """Resize the image, but not its labels and depth.

    Args:
        height: height in pixels
        width: width in pixels
        keeps_aspect: whether to keep the aspect ratio; height and width are then upper bounds, the larger one for the
            longer side
    """

    height: int
    width: int
    keeps_aspect: bool = False

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """Resize the image, averaging pixels if it shrinks."""
        del generator
        own = sample.image.shape[:2]
        height, width = self.height, self.width
        if self.keeps_aspect:
            height, width = keep_aspect(*own, longest=max(height, width), shortest=min(height, width))
        return replace(sample, image=resized(sample.image, (height, width)))


def resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """An image (H, W, 3) resized to (height, width): averaged if it shrinks, else bilinear."""
    shrinks = size[0] * size[1] < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=method)  # type: ignore[no-any-return]
