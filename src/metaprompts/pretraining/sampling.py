"""Generate images with a pipeline, and lay them out in sheets with their captions."""

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray

from metaprompts.utils.batches import batched
from metaprompts.visualize.sheets import contact_sheet
from metaprompts.visualize.text import ImageArray, blank, stack_down, text_size, write_texts

_BATCH = 8
_ENLARGED = 2
_COLUMNS = 4
_SIZE_PX = 13
_LINES = 4


def generate_images(
    pipeline: StableDiffusionPipeline, captions: Sequence[str], seed: int, steps: int, guidance: float
) -> NDArray[np.uint8]:
    """Generate an image for each caption, at the pipeline's own size.

    Args:
        pipeline: for example ``StableDiffusionPipeline.from_pretrained(folder)``
        captions: N captions
        seed: image i starts from noise of seed + i, independent of the others
        steps: number of denoising steps
        guidance: classifier-free guidance scale; 1 disables guidance

    Returns:
        (N, H, W, 3), RGB in 0..255
    """
    pipeline.set_progress_bar_config(disable=True)
    drawn = []
    for start in range(0, len(captions), _BATCH):
        some = list(captions[start : start + _BATCH])
        images = pipeline(
            some,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed + start + place) for place in range(len(some))],
            output_type="np",
        ).images
        drawn.append((images * 255).round().astype(np.uint8))
    return np.concatenate(drawn)


def captioned_sheet(images: NDArray[np.uint8], captions: Sequence[str]) -> ImageArray:
    """Lay out enlarged images, each above its full caption.

    Args:
        images: (N, H, W, 3)
        captions: N captions

    Returns:
        (sheet height, sheet width, 3)
    """
    cells = [_captioned(image, caption) for image, caption in zip(images, captions, strict=True)]
    rows = batched(cells, _COLUMNS)
    height, width = cells[0].shape[:2]
    return contact_sheet(rows, cell=(height, width))


def _captioned(image: ImageArray, caption: str) -> ImageArray:
    enlarged = image.repeat(_ENLARGED, axis=0).repeat(_ENLARGED, axis=1)
    width, line = enlarged.shape[1], text_size("0", _SIZE_PX)[1] + 2
    lines = _wrapped(caption, width)[:_LINES]
    texts = [(0, 2 + number * line, text) for number, text in enumerate(lines)]
    return stack_down(enlarged, write_texts(blank(2 + _LINES * line, width), texts, size_px=_SIZE_PX))


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_size(longer, _SIZE_PX)[0] > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
