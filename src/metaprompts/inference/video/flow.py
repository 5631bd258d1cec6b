"""Optical flow between frames, with a check of its reliability, and detection of cuts."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from metaprompts.visualize.text import ImageArray

# A pixel followed there and back must end this close to its start, in pixels and as a fraction of its path.
_NEAR_PX, _NEAR_SHARE = 1.0, 0.1
# The pixel's gray level (0 to 255) may differ by at most this much.
_SIMILAR = 24
# If a smaller fraction of pixels is found again, the scene has changed.
_CUT_SHARE = 0.3


@dataclass(frozen=True, eq=False)
class Flow:
    """Where a frame's pixels were in the previous frame.

    Attributes:
        steps: (H,W,2) float32: x and y to add to a pixel's position to find it in the previous frame, in pixels
        known: (H,W) bool: whether the pixel was visible there
    """

    steps: NDArray[np.float32]
    known: NDArray[np.bool_]

    @classmethod
    def between(cls, before: ImageArray, now: ImageArray) -> "Flow":
        """Compute the flow by DIS (Kroeger et al., ECCV 2016) and check it forward and backward.

        Args:
            before: (H,W) uint8 gray, at least 16 pixels per side
            now: the next frame, of the same shape
        """
        steps = _dis().calc(now, before, None)
        forth = _dis().calc(before, now, None)
        places = steps + _grid(*now.shape)
        returned = _sampled(forth, places) + steps
        allowed = _NEAR_PX + _NEAR_SHARE * np.linalg.norm(steps, axis=2)
        height, width = now.shape
        inside = ((places >= 0) & (places <= (width - 1, height - 1))).all(axis=2)
        similar = np.abs(_sampled(before, places).astype(np.int16) - now) < _SIMILAR
        return cls(steps, inside & similar & (np.linalg.norm(returned, axis=2) < allowed))

    @property
    def is_cut(self) -> bool:
        """Whether the frames show different scenes."""
        return float(self.known.mean()) < _CUT_SHARE


def gray_of(image: ImageArray, size: tuple[int, int]) -> ImageArray:
    """An image (H,W,3) in gray, resized to (height, width)."""
    small = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    gray: ImageArray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    return gray


def _dis() -> Any:
    # OpenCV's type annotations lack this function.
    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # type: ignore[attr-defined]


def _sampled(values: NDArray[Any], places: NDArray[np.float32]) -> NDArray[Any]:
    sampled: NDArray[Any] = cv2.remap(values, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return sampled


def _grid(height: int, width: int) -> NDArray[np.float32]:
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([columns, rows], axis=2)
