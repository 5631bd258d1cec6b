"""What a runtime needs to know of the three parts to convert them for any number and size of pictures."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.export import Dim

from metaprompts.errors import InputError
from metaprompts.prompting import CaptionPrompts
from metaprompts.runtime.prepared import PreparedModel

PARTS = ("encode", "look", "finish")

# Dimensions are traced as numbers that are unlike any other in the network: 1 would be taken for a constant.
_BATCH, _ROWS, _COLUMNS, _HEIGHT, _WIDTH = 2, 3, 5, 130, 134


@dataclass(frozen=True)
class Example:
    """What a part is traced with.

    Attributes:
        arguments: positional
        shapes: of each argument which dimensions may be others, as torch.export wants it
    """

    arguments: tuple[Any, ...]
    shapes: tuple[Any, ...]


def multiple_of(prepared: PreparedModel) -> int:
    """Of what the sides of converted networks' pictures must be multiples, in pixels: 64 for Stable Diffusion."""
    halvings = len(prepared.look.unet.channels) - 1
    return int(2**halvings) * prepared.encode.stride


def refuse_uneven(images: Tensor, multiple: int) -> None:
    """Check that pictures (B, 3, H, W) can go through a converted network.

    Raises:
        InputError: they cannot
    """
    height, width = images.shape[-2:]
    if height % multiple or width % multiple:
        raise InputError(
            f"converted networks look at pictures whose sides are multiples of {multiple}, not at {height}x{width}: "
            "choose another size, or the engine eager"
        )


def examples(prepared: PreparedModel) -> dict[str, Example]:
    """Arguments for each part, with nothing in them; latents have sides that are halved evenly on all levels."""
    unet = prepared.look.unet
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
    told = prepared.conditions(_BATCH, context)
    pixels, pixel_shape = map_at(block * prepared.encode.stride, 3)
    latent, latent_shape = map_at(block, unet.conv_in.in_channels)
    levels, level_shapes = zip(*(map_at(block >> level, wide) for level, wide in enumerate(unet.channels)), strict=True)
    images, image_shape = empty(3, _HEIGHT, _WIDTH), {0: batch, 2: Dim("height", min=16), 3: Dim("width", min=16)}
    return {
        "encode": Example((pixels,), (pixel_shape,)),
        "look": Example((latent, shifts[0], told.keys_values[0]), (latent_shape, None, of_captions)),
        "finish": Example((list(levels), told.prompts, images), (list(level_shapes), of_captions, image_shape)),
    }
