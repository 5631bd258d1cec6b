"""Captions of a split's images, encoded before the first sample is read; samples only look the encodings up."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metaprompts.captioning.captioner import Captioner
from metaprompts.captioning.disk_cache import EncodingStore
from metaprompts.data.io.caption_file import CaptionFile
from metaprompts.data.sample import SampleDataset
from metaprompts.errors import InputError
from metaprompts.models.config import Prompts
from metaprompts.models.text_prompts import text_encoder_of
from metaprompts.utils.batches import batched
from metaprompts.utils.distributed_env import is_first_process, process_count, process_rank
from metaprompts.utils.files import cache_folder
from metaprompts.utils.progress import ProgressBar

logger = logging.getLogger(__name__)

_AT_ONCE = 8

CaptionOf = Callable[[str], str]
"""The path of an image -> its caption; raises InputError if there is none."""


@dataclass(frozen=True)
class Contexts:
    """The path of an image -> its caption's tokens, read from disk; picklable.

    Attributes:
        caption_of: path of an image -> its caption
        store: the encodings of the captions
    """

    caption_of: CaptionOf
    store: EncodingStore

    def __call__(self, path: str) -> NDArray[np.float32]:
        """The tokens (L, D) of an image's caption.

        Raises:
            InputError: there is no caption, or its encoding is missing or damaged
        """
        return self.store.read(self.caption_of(path))

    def file(self, path: str) -> Path:
        """The file with the tokens of an image's caption.

        Raises:
            InputError: there is no caption
        """
        return self.store.path(self.caption_of(path))


def prepare_contexts(
    samples: SampleDataset, prompts: Prompts, data: Any, root: Path, device: torch.device, *, tolerant: bool
) -> Contexts:
    """Caption and encode images that are not yet stored, and return a lookup for samples.

    Processes started by torchrun begin at different images, and so share the work without waiting.

    Args:
        samples: samples of a split
        prompts: prompts whose text encoder reads the captions
        data: the recipe's data section
        root: folder that names in a caption file are relative to
        device: compute device
        tolerant: whether to ignore images without a caption until they are read

    Raises:
        InputError: an image has no caption or cannot be read, or captioner or text encoder cannot be loaded
    """
    cache = data.cache or cache_folder()
    images: dict[str, int] = {}
    for index in range(len(samples)):
        images.setdefault(samples.path(index), index)
    paths = _from_own_share(images)
    if data.captioner is None:
        caption_of: CaptionOf = CaptionFile(data.caption_file(), root).of
    else:
        generated = _captioned(samples, paths, Captioner(data.captioner, cache, device), tolerant=tolerant)
        caption_of = partial(_generated_caption, generated)
    captions = dict.fromkeys(_known(paths, caption_of, tolerant=tolerant))
    return Contexts(caption_of, encode_captions(list(captions), prompts, cache, device))


def encode_captions(captions: list[str], prompts: Prompts, cache: Path, device: torch.device) -> EncodingStore:
    """Encode all captions; the text encoder is loaded only if needed.

    Args:
        captions: unique captions
        prompts: prompts whose text encoder reads the captions
        cache: cache folder of encodings
        device: compute device

    Raises:
        InputError: the text encoder cannot be loaded, or a file cannot be written
    """
    encoder = text_encoder_of(prompts) if prompts.text_fingerprint is None else None
    fingerprint = prompts.text_fingerprint if encoder is None else encoder.fingerprint()
    store = EncodingStore(cache, fingerprint or "")
    missing = [caption for caption in captions if not store.has(caption)]
    if missing:
        encoder = encoder or text_encoder_of(prompts)
        encoder.network.to(device)  # type: ignore[arg-type]
        with ProgressBar("encoding captions", len(missing), quiet=not is_first_process()) as bar:
            store.fill(missing, encoder.captions, bar.advance)
    return store


def _from_own_share(images: Mapping[str, int]) -> dict[str, int]:
    """The same images, starting with this process's share."""
    places = list(images.items())
    first = len(places) * process_rank() // process_count()
    return dict([*places[first:], *places[:first]])


def _known(paths: Iterable[str], caption_of: CaptionOf, *, tolerant: bool) -> list[str]:
    """The captions of images; if missing captions are tolerated, images without a caption are left out."""
    captions = []
    for path in paths:
        try:
            captions.append(caption_of(path))
        except InputError as error:
            if not tolerant:
                raise
            logger.info("no caption: %s", error)
    return captions


def _generated_caption(captions: Mapping[str, str], path: str) -> str:
    if path not in captions:
        raise InputError(f"image {path} has no caption: it could not be read during captioning")
    return captions[path]


def _captioned(
    samples: SampleDataset, paths: Mapping[str, int], captioner: Captioner, *, tolerant: bool
) -> dict[str, str]:
    """Path -> caption of every image, or, if unreadable images are tolerated, of every readable image."""
    captions: dict[str, str] = {}
    places = list(paths.items())
    with ProgressBar("captioning", len(places), quiet=not is_first_process()) as bar:
        for part in batched(places, _AT_ONCE):
            images = dict(_readable(samples, part, tolerant=tolerant))
            captions |= dict(zip(images, captioner.caption(list(images.values())), strict=True))
            bar.advance(len(part))
    return captions


def _readable(
    samples: SampleDataset, places: Iterable[tuple[str, int]], *, tolerant: bool
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Paths and images (H, W, 3); unreadable images are left out."""
    for path, index in places:
        try:
            yield path, samples[index].image
        except InputError:
            if not tolerant:
                raise
