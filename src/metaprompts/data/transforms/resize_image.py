"""Resize the picture alone, for predictions that are compared at the labels' own size."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from metaprompts.data.samples import Sample


@dataclass(frozen=True)
class ResizeImage:
    """Resize the image and leave its labels and depth as they are.

    Args:
        height: in pixels
        width: in pixels
    """

    height: int
    width: int

    def __call__(self, sample: Sample, generator: np.random.Generator) -> Sample:
        """Resize, averaging where the picture shrinks."""
        del generator
        shrinks = self.height * self.width < sample.image.shape[0] * sample.image.shape[1]
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return replace(sample, image=cv2.resize(sample.image, (self.width, self.height), interpolation=method))
