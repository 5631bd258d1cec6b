"""A cache of latents, for runs that see the same images repeatedly."""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

# Size of the latents in main memory; a latent of the miniature takes 24 KB, one of Stable Diffusion at 512x512 64 KB.
_LARGEST_BYTES = 2**30


class LatentCache:
    """Caches the frozen encoder's latent of each image, keyed by the image's pixels.

    Useful only if images repeat exactly: fixed crops, mirrored or not, in unchanged colors. A full cache stores nothing
    more.

    Args:
        largest_bytes: maximum size of all latents together
    """

    def __init__(self, largest_bytes: int = _LARGEST_BYTES) -> None:
        self._kept: dict[bytes, Tensor] = {}
        self._bytes_left = largest_bytes

    def latents(self, images: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """The latents of images; only new images are encoded.

        Args:
            images: (B, 3, H, W)
            encode: images to latents, independently of each other

        Returns:
            (B, C, h, w)
        """
        keys = [_fingerprint(image) for image in images]
        # One image at a time, because the last bit of a latent depends on its batch, but cached values must not.
        fresh = {place: encode(images[place : place + 1])[0] for place, key in enumerate(keys) if key not in self._kept}
        found = [
            fresh[place] if place in fresh else self._kept[key].to(images.device) for place, key in enumerate(keys)
        ]
        for place, latent in fresh.items():
            self._keep(keys[place], latent)
        return torch.stack(found)

    def _keep(self, key: bytes, latent: Tensor) -> None:
        size = latent.numel() * latent.element_size()
        if size <= self._bytes_left and key not in self._kept:
            self._kept[key] = latent.detach().cpu().clone()
            self._bytes_left -= size


def _fingerprint(image: Tensor) -> bytes:
    """A cache key of pixels, size and precision."""
    content = hashlib.blake2b(digest_size=16)
    content.update(f"{tuple(image.shape)} {image.dtype}".encode())
    content.update(image.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return content.digest()
