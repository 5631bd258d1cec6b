"""Caches of frozen encoders' outputs, for runs that see the same images repeatedly."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from metaprompts.errors import InputError
from metaprompts.utils.distributed_env import is_first_process
from metaprompts.utils.tensor_files import write_tensors

_logger = logging.getLogger(__name__)

# Size of the outputs in main memory. A latent of the miniature takes 24 KB, one of Stable Diffusion at 512x512 64 KB;
# the four maps of DINOv2 base at 512x512 take 17 MB.
_LARGEST_BYTES = 2**30
_CHECKSUM = "checksum"


class EncoderCache:
    """Caches a frozen encoder's outputs for each image in memory, keyed by the image's pixels.

    Useful only if images repeat exactly: fixed crops, mirrored or not, in unchanged colors. A full cache takes no new
    entries.

    Args:
        largest_bytes: maximum size of all outputs together
        full: warning to log when the cache is full; None for no warning
    """

    def __init__(self, largest_bytes: int = _LARGEST_BYTES, *, full: str | None = None) -> None:
        self._kept: dict[str, list[Tensor]] = {}
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
        found = [self._output(images[place : place + 1], encode) for place in range(len(images))]
        return [torch.stack(each) for each in zip(*found, strict=True)]

    def _output(self, image: Tensor, encode: Callable[[Tensor], Sequence[Tensor]]) -> list[Tensor]:
        # One image at a time, because the last bit of an output depends on its batch, but cached values must not.
        key = _key(image)
        found = self._find(key)
        if found is not None:
            return [each.to(image.device) for each in found]
        fresh = [each[0] for each in encode(image)]
        self._keep(key, fresh)
        return fresh

    def _find(self, key: str) -> Sequence[Tensor] | None:
        return self._kept.get(key)

    def _keep(self, key: str, tensors: Sequence[Tensor]) -> None:
        size = sum(each.numel() * each.element_size() for each in tensors)
        if size <= self._bytes_left:
            self._kept[key] = [each.detach().cpu().clone() for each in tensors]
            self._bytes_left -= size
        else:
            self._warn_once(f"{len(self._kept)} images, {size / 1e6:.2g} MB each")

    def _warn_once(self, reason: str) -> None:
        if self._full is not None and is_first_process():
            _logger.warning("%s (%s)", self._full, reason)
        self._full = None


class DiskEncoderCache(EncoderCache):
    """Caches a frozen encoder's outputs in files, for several processes and for later runs.

    Each image has a file, which is written atomically, memory-mapped, and checked when it is read: a damaged file is
    replaced. Once a file cannot be written, nothing more is stored.

    Args:
        folder: folder of one encoder's outputs
        full: warning to log when a file cannot be written; None for no warning
    """

    def __init__(self, folder: Path, *, full: str | None = None) -> None:
        super().__init__(full=full)
        self._folder = folder
        self._writable = True

    def _find(self, key: str) -> Sequence[Tensor] | None:
        try:
            with safe_open(self._path(key), "pt") as file:
                tensors = {name: file.get_tensor(name) for name in sorted(file.keys(), key=int)}
                intact = (file.metadata() or {}).get(_CHECKSUM) == _checksum(tensors)
        except (OSError, SafetensorError, ValueError):
            return None
        return list(tensors.values()) if intact else None

    def _keep(self, key: str, tensors: Sequence[Tensor]) -> None:
        if not self._writable:
            return
        named = {str(place): tensor.detach() for place, tensor in enumerate(tensors)}
        try:
            write_tensors(self._path(key), named, {_CHECKSUM: _checksum(named)})
        except InputError as error:
            self._writable = False
            self._warn_once(str(error))

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"


def _checksum(named: dict[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in named.items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _key(image: Tensor) -> str:
    """A cache key of pixels, size, precision and device, since outputs depend on all of them."""
    device = image.device.type
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    content = hashlib.blake2b(digest_size=16)
    content.update(f"{tuple(image.shape)} {image.dtype} {autocast} {device}".encode())
    content.update(image.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return content.hexdigest()
