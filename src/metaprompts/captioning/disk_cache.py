"""Disk caches of captions and their encodings, each entry written atomically."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metaprompts.errors import InputError
from metaprompts.utils.batches import batched
from metaprompts.utils.files import read_json, write_json, write_whole

_AT_ONCE = 32


@dataclass(frozen=True)
class EncodingStore:
    """Captions encoded by a text encoder; the key of an entry is the caption alone.

    Attributes:
        cache: root folder of the cache
        fingerprint: fingerprint of the text encoder
    """

    cache: Path
    fingerprint: str

    def path(self, caption: str) -> Path:
        """The file of a caption's encoding."""
        name = hashlib.sha256(caption.encode()).hexdigest()[:32]
        return self.cache / "encodings" / self.fingerprint / name[:2] / f"{name}.npy"

    def has(self, caption: str) -> bool:
        """Whether an intact encoding exists; its values are checked when it is read."""
        try:
            # The file is only mapped, not read, but mapping a truncated file fails.
            found = np.load(self.path(caption), mmap_mode="r", allow_pickle=False)
        except Exception:  # the exception type depends on where the header is damaged
            return False
        return bool(found.ndim == 2 and found.dtype == np.float32)

    def read(self, caption: str) -> NDArray[np.float32]:
        """The encoding (L, D) of a caption.

        Raises:
            InputError: the encoding is missing or damaged
        """
        path = self.path(caption)
        try:
            found: NDArray[np.float32] = np.load(path, allow_pickle=False)
        except Exception as error:  # the exception type depends on where the header is damaged
            raise InputError(
                f"{path}, the encoding of {caption!r}, cannot be read: run the same command again to recreate it"
            ) from error
        if found.ndim != 2 or found.dtype != np.float32 or not np.isfinite(found).all():
            raise InputError(
                f"{path}, the encoding of {caption!r}, is damaged: delete it and run the same command again"
            )
        return found

    def fill(
        self,
        captions: Sequence[str],
        encode: Callable[[Sequence[str]], Tensor],
        on_done: Callable[[int], None] = lambda captions: None,
    ) -> None:
        """Encode missing captions; captions that another process has encoded in the meantime are skipped.

        Args:
            captions: the captions, without duplicates
            encode: n captions -> (n, L, D)
            on_done: called with the number of captions encoded since the last call

        Raises:
            InputError: a file cannot be written
        """
        for part in batched(captions, _AT_ONCE):
            missing = [caption for caption in part if not self.has(caption)]
            for caption, tokens in zip(missing, encode(missing) if missing else (), strict=True):
                with write_whole(self.path(caption)) as scratch:
                    np.save(scratch, tokens.cpu().numpy().astype(np.float32), allow_pickle=False)
            on_done(len(part))


@dataclass(frozen=True)
class CaptionStore:
    """Captions that a captioner generated for images; the key of an entry is the image's pixels.

    Attributes:
        cache: root folder of the cache
        captioner: the captioner's key
    """

    cache: Path
    captioner: str

    def path(self, image: NDArray[np.uint8]) -> Path:
        """The file of a caption.

        Args:
            image: (H, W, 3)
        """
        content = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
        content.update(np.ascontiguousarray(image).data)
        name, whose = content.hexdigest(), hashlib.sha256(self.captioner.encode()).hexdigest()[:16]
        return self.cache / "captions" / whose / name[:2] / f"{name}.json"

    def read(self, image: NDArray[np.uint8]) -> str | None:
        """The caption of an image (H, W, 3); None if it is missing or damaged."""
        path = self.path(image)
        try:
            content = read_json(path) if path.is_file() else None
        except InputError:
            return None
        caption = content.get("caption") if isinstance(content, dict) else None
        return caption if isinstance(caption, str) else None

    def write(self, image: NDArray[np.uint8], caption: str) -> None:
        """Store the caption of an image (H, W, 3).

        Raises:
            InputError: the file cannot be written
        """
        write_json(self.path(image), {"caption": caption, "captioner": self.captioner})
