"""Predict groups of images for ``metaprompts predict``."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from metaprompts.cli.captions import CaptionOf
from metaprompts.cli.inference_options import InferenceOptions
from metaprompts.cli.people import People
from metaprompts.data.io.images import read_image
from metaprompts.data.io.open_image import CheckSize
from metaprompts.errors import CaptionerError, InputError
from metaprompts.tasks.predictions import Prediction
from metaprompts.utils.background import read_ahead
from metaprompts.utils.batches import batched
from metaprompts.visualize.text import ImageArray

# Of larger images, one at a time is read, predicted and written: the memory limit is computed for one.
_MOST_PIXELS = 32 * 10**6


@dataclass
class ImageGroup:
    """Images that are predicted together.

    Attributes:
        paths: the files
        images: the readable images, by file; None if each is read when it is needed
        failures: why other images cannot be read, one line each
    """

    paths: Sequence[Path]
    images: dict[Path, ImageArray] | None = None
    failures: list[str] = field(default_factory=list)


def read_group(
    paths: Sequence[Path], check_size: CheckSize, white_level: int | None, most_pixels: float = math.inf
) -> ImageGroup:
    """Read images, unless one of them has more than ``most_pixels``."""
    images: dict[Path, ImageArray] = {}
    group, large = ImageGroup(paths), False

    def check(width: int, height: int) -> None:
        nonlocal large
        check_size(width, height)
        if large := width * height > most_pixels:
            raise InputError("too large to be read ahead")

    for path in paths:
        try:
            images[path] = read_image(path, white_level=white_level, check_size=check)
        except InputError as error:
            if large:
                return ImageGroup(paths)
            group.failures.append(str(error))
    group.images = images
    return group


@dataclass
class PredictedGroups:
    """Predicts images group by group, and reads the next group meanwhile.

    Attributes:
        paths: the images
        size: images per group
        inference: the models and how they predict
        people: locates people
        captions: the images' captions, if a model reads them
        white_level: see `read_image`
        failures: one line for each failed image
    """

    paths: Sequence[Path]
    size: int
    inference: InferenceOptions
    people: People
    captions: CaptionOf | None
    white_level: int | None
    failures: list[str] = field(default_factory=list)
    _predicting_s: float = 0.0
    _seconds: float = 0.0

    def __len__(self) -> int:
        return len(batched(self.paths, self.size))

    def __iter__(self) -> Iterator[list[tuple[Path, Prediction]]]:
        started = time.perf_counter()
        for group in read_ahead(batched(self.paths, self.size), partial(self._read, most_pixels=self._most_pixels)):
            whole = group if group.images is not None else self._read(group.paths)
            self.failures += whole.failures
            before = time.perf_counter()
            pairs = predict_group(self.inference, whole.images or {}, self.people, self.captions, self.failures)
            self._predicting_s += time.perf_counter() - before
            del group, whole
            yield pairs
        self._seconds = time.perf_counter() - started

    @property
    def _most_pixels(self) -> int:
        return 0 if self.inference.is_limited else _MOST_PIXELS

    def overlaps(self, prediction: Prediction) -> bool:
        """Whether a prediction may be written while the next image is predicted."""
        height, width = prediction.image.shape[:2]
        return bool(height * width <= self._most_pixels)

    @property
    def rate(self) -> str:
        """Images per second, and the share of the time spent on predicting; empty for a single image."""
        if len(self.paths) < 2 or not self._seconds:
            return ""
        share = self._predicting_s / self._seconds
        return f"{len(self.paths) / self._seconds:.2f} images/s, {share:.0%} of the time predicting"

    def _read(self, paths: Sequence[Path], most_pixels: float = math.inf) -> ImageGroup:
        return read_group(paths, self.inference.check_size, self.white_level, most_pixels)


def predict_group(
    inference: InferenceOptions,
    images: Mapping[Path, ImageArray],
    people: People,
    captions: CaptionOf | None,
    failures: list[str],
) -> list[tuple[Path, Prediction]]:
    """Predict images; failed images are added to ``failures``."""
    readable = []
    for path, image in images.items():
        try:
            found = people.of(path, image)
            readable.append((path, image, found, None if captions is None else captions(path, image)))
        except CaptionerError:
            raise
        except InputError as error:
            failures.append(str(error))
    try:
        return _predictions(inference, people, readable)
    except InputError as error:
        if len(readable) == 1:
            failures.append(f"{readable[0][0]}: {error}")
            return []
    # One image that does not fit in memory must not stop the others.
    pairs = []
    for row in readable:
        try:
            pairs += _predictions(inference, people, [row])
        except InputError as error:
            failures.append(f"{row[0]}: {error}")
    return pairs


def _predictions(
    inference: InferenceOptions, people: People, readable: Sequence[tuple[Path, ImageArray, Any, Any]]
) -> list[tuple[Path, Prediction]]:
    """The predictions of each model for each image."""
    pairs = []
    for model in inference.models:
        reads = model.config.prompts.kind == "caption"
        inputs = [(image, found, caption if reads else None) for _, image, found, caption in readable]
        predictions = (people.distinct(model, each) for each in inference.predictions(model, inputs))
        pairs += [(path, prediction) for (path, *_), prediction in zip(readable, predictions, strict=True)]
    return pairs
