"""The views of an image that the model predicts: the whole image at a size that the backbone accepts, or crops."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from metaprompts.data.transforms.affine import box_center_scale, udp_matrix
from metaprompts.data.transforms.geometric import resized
from metaprompts.data.transforms.tensors import image_tensor
from metaprompts.utils.batches import row_bands
from metaprompts.utils.lazy import lazy_module
from metaprompts.visualize.text import ImageArray

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor
else:
    torch = lazy_module("torch")
    F = lazy_module("torch.nn.functional")

# The UNet halves the latent three times, so sides that are multiples of 64 need no resized skips.
_MULTIPLE = 64
# For models without a working size: about one megapixel, which attention can still handle on a laptop.
_LARGEST_AREA = 1024 * 1024
# Above this number of pixels, results are computed in bands.
_LARGE = 2**25


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelInput:
    """An image, or a part of one, as the model's input.

    Attributes:
        image: (3, h, w) float in [0, 1]
        box_xywh: the requested part of the image, in pixels
        score: confidence of the box, 1 for a whole image
        center: (2,) x and y of the crop's center in the image, if the view is a crop
        size: (2,) width and height of the crop in the image, if the view is a crop
    """

    image: Tensor
    box_xywh: NDArray[np.float32]
    score: float = 1.0
    center: NDArray[np.float32] | None = None
    size: NDArray[np.float32] | None = None


def view_size(height: int, width: int, working_size: tuple[int, int] | None) -> tuple[int, int]:
    """The size at which to predict an image: the area of the training images at the image's own aspect ratio.

    Args:
        height: height of the image, at least 1
        width: width of the image, at least 1
        working_size: (height, width) of the images that the model was trained on; None for the image's own

    Returns:
        (height, width), multiples of 64; thin images are widened to 64
    """
    area = working_size[0] * working_size[1] if working_size else min(height * width, _LARGEST_AREA)
    scale = math.sqrt(area / (height * width))
    # A very thin image keeps its area but not its aspect ratio: the long side shrinks as the short side is stretched.
    long_side = max(area // _MULTIPLE, _MULTIPLE)
    return _round(min(height * scale, long_side)), _round(min(width * scale, long_side))


def whole_view(image: ImageArray, working_size: tuple[int, int] | None) -> ModelInput:
    """The whole image, resized for the model."""
    height, width = image.shape[:2]
    size = view_size(height, width, working_size)
    return ModelInput(image=image_tensor(resized(image, size)), box_xywh=np.array([0, 0, width, height], np.float32))


def person_view(
    image: ImageArray, box_xywh: Sequence[float], crop_size: tuple[int, int], *, padding: float, score: float = 1.0
) -> ModelInput:
    """A person's box, enlarged to ``padding`` times its size, as a crop of size (width, height)."""
    box = np.asarray(box_xywh, np.float32)
    center, size = box_center_scale(box, crop_size[0] / crop_size[1], padding=padding)
    crop = cv2.warpAffine(image, udp_matrix(center, size, 0.0, crop_size), crop_size, flags=cv2.INTER_LINEAR)
    return ModelInput(image=image_tensor(crop), box_xywh=box, score=score, center=center, size=size)


def at_size(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (B, C, h, w), resized bilinearly to (height, width) if they have another size."""
    if maps.shape[-2:] == tuple(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def enlarged_bands(map_: Tensor, size: tuple[int, int]) -> Iterator[tuple[slice, Tensor]]:
    """Resize a map bilinearly to an image's own size; large results come in bands of rows, equal up to rounding.

    Args:
        map_: (h, w)
        size: (height, width)

    Yields:
        the slice of rows, and their values (rows, width), from top to bottom
    """
    height, width = size
    if height * width <= _LARGE:
        yield slice(0, height), at_size(map_[None, None], size)[0, 0]
        return
    wide = at_size(map_[None, None], (len(map_), width))[0, 0]
    for rows in row_bands(height, width):
        # Pixel centers are at half-integers, as with align_corners=False.
        centers = (torch.arange(rows.start, rows.stop, device=wide.device) + 0.5) * (len(wide) / height) - 0.5
        centers = centers.clamp(0, len(wide) - 1)
        above = centers.long()
        below = (above + 1).clamp_max(len(wide) - 1)
        yield rows, wide[above].lerp_(wide[below], (centers - above).to(wide.dtype).unsqueeze(1))


def _round(length: float) -> int:
    return max(_MULTIPLE, round(length / _MULTIPLE) * _MULTIPLE)
