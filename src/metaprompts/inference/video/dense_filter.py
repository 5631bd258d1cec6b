"""Average dense predictions over time, along the optical flow, until the scene is cut."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from metaprompts.visualize.text import ImageArray

# The weight of the previous frame in the average.
_SHARE = 0.7
# The weight of the newest frame in the averaged common change.
_DRIFT_SHARE = 0.2
# Optical flow cannot be computed for smaller images.
_SMALLEST_SIDE = 16
# A pixel followed there and back must end this close to its start, in pixels and as a fraction of its path.
_NEAR_PX, _NEAR_SHARE = 1.0, 0.1
# The pixel's gray level (0 to 255) may differ by at most this much.
_SIMILAR = 24
# If a smaller fraction of pixels is found again, the scene has changed.
_CUT_SHARE = 0.3


@dataclass(frozen=True, kw_only=True)
class _Space:
    """The representation in which raw outputs of a task are averaged.

    Attributes:
        enter: raw output (C,h,w) -> values to average
        leave: the inverse of ``enter``
        change: differences this large are changes of the scene, not flicker
        drifts: whether all values change by a common amount when the camera moves
    """

    enter: Callable[[Tensor], Tensor]
    leave: Callable[[Tensor], Tensor]
    change: float
    drifts: bool = False


FILTERED = {
    "depth": _Space(enter=lambda raw: raw.clamp_min(1e-3).log(), leave=torch.exp, change=0.3, drifts=True),
    "segmentation": _Space(
        enter=lambda raw: raw.softmax(dim=0), leave=lambda shares: shares.clamp_min(1e-12).log(), change=0.5
    ),
    "normals": _Space(
        enter=lambda raw: F.normalize(raw, dim=0), leave=lambda vectors: F.normalize(vectors, dim=0), change=0.5
    ),
}
"""Task -> representation: log meters, class probabilities, unit vectors."""


class DenseFilter:
    """An exponential average of raw outputs that follows each pixel from frame to frame.

    A pixel that was hidden before, or whose prediction changes by more than flicker would, is reset; a cut resets all
    pixels.

    Args:
        task: one of `FILTERED`
    """

    def __init__(self, task: str) -> None:
        self._space = FILTERED[task]
        self._gray: ImageArray | None = None
        self._average: Tensor | None = None
        self._drift = torch.zeros(())

    def __call__(self, image: ImageArray, raw: Tensor) -> Tensor:
        """Filter the raw output of the next frame.

        Args:
            image: (H,W,3) uint8 RGB, the frame
            raw: (C,h,w) raw output, of any size

        Returns:
            (C,h,w)
        """
        if min(raw.shape[-2:]) < _SMALLEST_SIDE:
            return raw
        now = self._space.enter(raw.float())
        gray = gray_of(image, (raw.shape[-2], raw.shape[-1]))
        if self._gray is not None and self._average is not None and self._average.shape == now.shape:
            now = self._averaged(Flow.between(self._gray, gray), self._average, now)
        self._gray, self._average = gray, now
        return self._space.leave(now)

    def _averaged(self, flow: "Flow", before: Tensor, now: Tensor) -> Tensor:
        if flow.is_cut:
            self._drift = torch.zeros(())
            return now
        followed = warped(before, torch.from_numpy(flow.steps).to(now.device))
        known = torch.from_numpy(flow.known).to(now.device)
        if self._space.drifts:
            self._drift = torch.lerp(self._drift.to(now.device), (now - followed)[:, known].median(), _DRIFT_SHARE)
            followed = followed + self._drift
        difference = (now - followed).abs().amax(dim=0)
        weight = _SHARE * known * torch.exp(-((difference / self._space.change) ** 2))
        return torch.lerp(now, followed, weight)


def warped(values: Tensor, steps: Tensor) -> Tensor:
    """Values (C,h,w) sampled bilinearly at each pixel's position plus a step (h,w,2)."""
    height, width = values.shape[-2:]
    rows, columns = torch.meshgrid(
        torch.arange(height, device=steps.device), torch.arange(width, device=steps.device), indexing="ij"
    )
    places = steps + torch.stack([columns, rows], dim=2)
    scale = places.new_tensor([max(width - 1, 1), max(height - 1, 1)])
    grid = (2 * places / scale - 1)[None]
    return F.grid_sample(values[None], grid, padding_mode="border", align_corners=True)[0]


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
        rows, columns = np.mgrid[: now.shape[0], : now.shape[1]].astype(np.float32)
        places = steps + np.stack([columns, rows], axis=2)
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
