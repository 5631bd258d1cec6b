"""A sample of a data set: one image with its targets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from metaprompts.errors import InputError

Split = Literal["train", "val"]
"""The splits of a data set."""

IGNORED_LABEL = 255
"""The label of pixels excluded from losses and metrics."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Crop:
    """The position of an upright, unflipped crop in its image.

    Attributes:
        center: (2,) float32, x and y of the crop's center, in pixels of the image
        size: (2,) float32, width and height of the crop, in pixels of the image
    """

    center: NDArray[np.float32]
    size: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Person:
    """One person of an image.

    Attributes:
        keypoints: (J, 3) float32: x and y in pixels, then 0 (not labeled), 1 (labeled but hidden) or 2 (visible)
        box_xywh: (4,) float32: left, top, width, height in pixels of the whole image
        image_id: the image's number in the annotation file
        annotation_id: the person's number in the annotation file; for a detection, its position in the detection file
        score: the detector's confidence, 1 for an annotated person
        area: area of the person in pixels, which OKS uses to scale distances
        crop: position of the sample's image in the whole image; None if the sample's image is the whole image
    """

    keypoints: NDArray[np.float32]
    box_xywh: NDArray[np.float32]
    image_id: int
    annotation_id: int
    score: float
    area: float
    crop: Crop | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseTarget:
    """Per-pixel targets other than class indices and depth; each task names its own.

    Attributes:
        values: (H, W) or (H, W, C)
        nothing: value of padded pixels
        mirrored: factor of each channel in a mirrored image: -1 for components that point to the right
    """

    values: NDArray[Any]
    nothing: float = 0.0
    mirrored: tuple[float, ...] = (1.0,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One image and its targets; missing targets are None.

    Attributes:
        image: (H, W, 3) uint8 RGB
        path: the image's file, for messages and output names
        labels: (H, W) uint8 class indices, 255 = ignored
        depth_m: (H, W) float32 meters, 0 = no measurement, infinite = sky
        dense: targets of further tasks, by their names in the batch
        person: the one person this sample is about
        turn: index + epoch, used by `EveryNth`
        context: (L, D) float32, the encoded caption of the image
    """

    image: NDArray[np.uint8]
    path: str
    labels: NDArray[np.uint8] | None = None
    depth_m: NDArray[np.float32] | None = None
    dense: Mapping[str, DenseTarget] = field(default_factory=dict)
    person: Person | None = None
    turn: int = 0
    context: NDArray[np.float32] | None = None


class SampleDataset(Protocol):
    """The interface of data sets; files are read in ``__getitem__``."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def path(self, index: int) -> str:
        """The path of a sample, without reading its image."""
        ...

    def files(self, index: int) -> tuple[Path, ...]:
        """The files that determine a sample."""
        ...


SMALLEST_SIDE = 8
"""In pixels: the encoder halves the size three times."""


def check_same_size(image: NDArray[Any], target: NDArray[Any], image_path: Path, target_path: Path) -> None:
    """Check that an image and its target have the same height and width.

    Raises:
        InputError: the sizes differ; the message names both files and sizes
    """
    if image.shape[:2] != target.shape[:2]:
        (height, width), (target_height, target_width) = image.shape[:2], target.shape[:2]
        raise InputError(
            f"{image_path} is {height}x{width} but {target_path} is {target_height}x{target_width} (height x width); "
            "expected the same size"
        )
