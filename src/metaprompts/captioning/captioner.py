"""An image captioning model."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metaprompts.captioning.disk_cache import CaptionStore
from metaprompts.errors import CaptionerError, InputError
from metaprompts.utils.hub import hub_folder, without_progress_bars

_LONGEST = 40
_FILES = ["*.json", "*.txt", "*.model", "*.jinja"]


@dataclass
class Captioner:
    """An image-to-text model from transformers: BLIP, BLIP-2, GIT, or a vision encoder with a text decoder.

    Decoding is greedy, so that an image always gets the same caption. The model is loaded when the first image is not
    in the store.

    Attributes:
        source: hub id or folder
        cache: cache folder of captions
        device: compute device

    Raises:
        InputError: the source is neither a folder nor a valid hub id
    """

    source: str
    cache: Path
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _loaded: tuple[Any, Any] | None = None

    def __post_init__(self) -> None:
        folder = Path(self.source).expanduser()
        if not folder.is_dir() and (folder.is_absolute() or self.source.count("/") != 1):
            raise InputError(f"no captioner at {self.source}: give a hub id (owner/name) or a folder")
        self.store = CaptionStore(self.cache, captioner_name(self.source))

    def caption(self, images: Sequence[NDArray[np.uint8]]) -> list[str]:
        """Caption images (H, W, 3) of any size; images in the store are not captioned again.

        Raises:
            CaptionerError: the model does not exist or cannot caption images, or the cache cannot be written
        """
        known = [self.store.read(image) for image in images]
        new = [place for place, caption in enumerate(known) if caption is None]
        for place, caption in zip(new, self._say([images[place] for place in new]) if new else (), strict=True):
            try:
                self.store.write(images[place], caption)
            except InputError as error:
                raise CaptionerError(str(error)) from error
            known[place] = caption
        return [caption or "" for caption in known]

    def _say(self, images: Sequence[NDArray[np.uint8]]) -> list[str]:
        if self._loaded is None:
            self._loaded = _load(self.source, self.device)
        processor, model = self._loaded
        try:
            pixels = processor(images=list(images), return_tensors="pt")["pixel_values"]
            with torch.no_grad():
                numbers = model.generate(
                    pixel_values=pixels.to(self.device, model.dtype), max_new_tokens=_LONGEST, do_sample=False
                )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CaptionerError(
                f"captioner {self.source} cannot caption an image ({' '.join(str(error).split())}): choose one "
                "that captions without a prompt, such as Salesforce/blip2-opt-2.7b"
            ) from error
        return [" ".join(text.split()) for text in processor.batch_decode(numbers, skip_special_tokens=True)]


def captioner_name(source: str) -> str:
    """The key of a captioner's captions: its hub id, or a fingerprint of its folder's content."""
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return source
    digest = hashlib.sha256()
    for path in sorted(each for each in folder.iterdir() if each.is_file()):
        # Weights are large, so only their size enters the fingerprint.
        content = path.read_bytes() if path.suffix in {".json", ".txt"} else str(path.stat().st_size).encode()
        digest.update(os.fsencode(path.name) + b"\0" + content)
    return digest.hexdigest()[:16]


def _load(source: str, device: torch.device) -> tuple[Any, Any]:
    """Processor and model."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    # Large captioners are published in half precision, which is slow on CPUs.
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    processor: Any
    model: Any
    try:
        folder = Path(source).expanduser()
        if not folder.is_dir():
            folder = hub_folder(source, [*_FILES, "*.safetensors"])
            if not any(folder.glob("*.safetensors")):
                folder = hub_folder(source, [*_FILES, "*.bin"])
        with without_progress_bars():
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True)  # type: ignore[no-untyped-call]
            model = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, local_files_only=True)
    except Exception as error:  # the hub, transformers, safetensors and pickle raise their own error types
        raise CaptionerError(f"captioner {source} cannot be loaded: {' '.join(str(error).split())}") from error
    return processor, model.eval().to(device)
