"""Code shared by other runtimes: trace the three parts for any size, and run the converted networks."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import Dim

from metaprompts.engines.optimized import OptimizedModel
from metaprompts.errors import InputError
from metaprompts.modules.meta_prompts import CaptionPrompts

# Dimensions are traced with unique sizes; a size of 1 would be specialized as a constant.
_BATCH, _ROWS, _COLUMNS, _HEIGHT, _WIDTH = 2, 3, 5, 130, 134


@dataclass(frozen=True)
class Example:
    """Example arguments for tracing a part.

    Attributes:
        arguments: positional arguments
        shapes: for each argument, the dimensions that may vary, as torch.export expects them
    """

    arguments: tuple[Any, ...]
    shapes: tuple[Any, ...]


def multiple_of(prepared: OptimizedModel) -> int:
    """The divisor, in pixels, of image sides that converted networks accept: 64 for Stable Diffusion."""
    halvings = len(prepared.unet_step.unet.channels) - 1
    return int(2**halvings) * prepared.encode.stride


def examples(prepared: OptimizedModel) -> dict[str, Example]:
    """Empty arguments for each part; latents have sides that are divisible on all levels."""
    unet = prepared.unet_step.unet
    block = multiple_of(prepared) // prepared.encode.stride
    batch, rows, columns = Dim("batch", min=1), Dim("rows", min=1), Dim("columns", min=1)

    shifts = prepared.conditions.shifts

    def empty(*shape: int) -> Tensor:
        return shifts.new_zeros(_BATCH, *shape)

    def map_at(scale: int, channels: int) -> tuple[Tensor, dict[int, Any]]:
        return empty(channels, scale * _ROWS, scale * _COLUMNS), {0: batch, 2: scale * rows, 3: scale * columns}

    prompts = prepared.conditions.prompts
    context = empty(*prompts.shape) if isinstance(prompts, CaptionPrompts) else None
    of_captions = None if context is None else {0: batch}
    conditioning = prepared.conditions(_BATCH, context)
    pixels, pixel_shape = map_at(block * prepared.encode.stride, 3)
    latent, latent_shape = map_at(block, unet.conv_in.in_channels)
    levels, level_shapes = zip(*(map_at(block >> level, wide) for level, wide in enumerate(unet.channels)), strict=True)
    images, image_shape = empty(3, _HEIGHT, _WIDTH), {0: batch, 2: Dim("height", min=16), 3: Dim("width", min=16)}
    return {
        "encode": Example((pixels,), (pixel_shape,)),
        "unet_step": Example((latent, shifts[0], conditioning.keys_values[0]), (latent_shape, None, of_captions)),
        "decode": Example((list(levels), conditioning.prompts, images), (list(level_shapes), of_captions, image_shape)),
    }


class ConvertedParts(ABC):
    """Parts executed by another runtime, with numpy arrays as inputs and outputs.

    Args:
        multiple: image sides must be multiples of this, see `multiple_of`
    """

    def __init__(self, multiple: int) -> None:
        self._multiple = multiple

    @abstractmethod
    def execute(self, part: str, arrays: Sequence[NDArray[np.float32]]) -> Sequence[NDArray[np.float32]]:
        """All outputs of a part (see `optimized.PARTS`) for its arguments in order."""

    def encode(self, images: Tensor) -> list[Tensor]:
        """Images to latents and maps.

        Raises:
            InputError: a converted network does not support the image size
        """
        height, width = images.shape[-2:]
        if height % self._multiple or width % self._multiple:
            raise InputError(
                f"converted networks take images with sides that are multiples of {self._multiple}, got "
                f"{height}x{width}: choose another size, or engine eager"
            )
        return self._run("encode", images)

    def unet_step(self, latent: Tensor, shifts: Tensor, keys_values: Tensor) -> list[Tensor]:
        """One step."""
        return self._run("unet_step", latent, shifts, keys_values)

    def decode(self, pyramid: Sequence[Tensor], prompts: Tensor, images: Tensor) -> Tensor:
        """Pyramid to raw output."""
        return self._run("decode", *pyramid, prompts, images)[0]

    def _run(self, part: str, *arguments: Tensor) -> list[Tensor]:
        arrays = [argument.detach().float().cpu().contiguous().numpy() for argument in arguments]
        return [torch.from_numpy(array) for array in self.execute(part, arrays)]
