"""A cache of frozen encoders' outputs, for runs that see the same images repeatedly."""

import hashlib
import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from metaprompts.utils.distributed_env import is_first_process

_logger = logging.getLogger(__name__)

# Size of the outputs in main memory. A latent of the miniature takes 24 KB, one of Stable Diffusion at 512x512 64 KB;
# the four maps of DINOv2 base at 512x512 take 17 MB.
_LARGEST_BYTES = 2**30


class EncoderCache:
    """Caches a frozen encoder's outputs for each image, keyed by the image's pixels.

    Useful only if images repeat exactly: fixed crops, mirrored or not, in unchanged colors. A full cache stores nothing
    more.

    Args:
        largest_bytes: maximum size of all outputs together
        full: warning to log when the cache is full; None for no warning
    """

    def __init__(self, largest_bytes: int = _LARGEST_BYTES, *, full: str | None = None) -> None:
        self._kept: dict[bytes, list[Tensor]] = {}
        self._bytes_left = largest_bytes
        self._full = full

    def outputs(self, images: Tensor, encode: Callable[[Tensor], Sequence[Tensor]]) -> list[Tensor]:
        """The encoder's outputs for images; only new images are encoded.

        Args:
            images: (B, 3, H, W)
            encode: images to one or more tensors (B, ...), independently of each other

        Returns:
            the tensors (B, ...)
        """
        keys = [_fingerprint(image) for image in images]
        # One image at a time, because the last bit of an output depends on its batch, but cached values must not.
        fresh = {
            place: [each[0] for each in encode(images[place : place + 1])]
            for place, key in enumerate(keys)
            if key not in self._kept
        }
        found = [
            fresh[place] if place in fresh else [each.to(images.device) for each in self._kept[key]]
            for place, key in enumerate(keys)
        ]
        for place, tensors in fresh.items():
            self._keep(keys[place], tensors)
        return [torch.stack(each) for each in zip(*found, strict=True)]

    def latents(self, images: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """`outputs` of an encoder with a single output.

        Args:
            images: (B, 3, H, W)
            encode: images to latents, independently of each other

        Returns:
            (B, C, h, w)
        """
        (latents,) = self.outputs(images, lambda batch: [encode(batch)])
        return latents

    def _keep(self, key: bytes, tensors: Sequence[Tensor]) -> None:
        size = sum(each.numel() * each.element_size() for each in tensors)
        if key in self._kept:
            return
        if size <= self._bytes_left:
            self._kept[key] = [each.detach().cpu().clone() for each in tensors]
            self._bytes_left -= size
        elif self._full is not None:
            if is_first_process():
                _logger.warning("%s (%d images, %.2g MB each)", self._full, len(self._kept), size / 1e6)
            self._full = None


def _fingerprint(image: Tensor) -> bytes:
    """A cache key of pixels, size and precision."""
    content = hashlib.blake2b(digest_size=16)
    content.update(f"{tuple(image.shape)} {image.dtype}".encode())
    content.update(image.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return content.digest()
