"""Predict groups of images, and videos, for ``metaprompts predict``."""

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
from metaprompts.cli.prediction_files import PredictionFiles
from metaprompts.cli.videos import VideoOptions
from metaprompts.data.io.images import read_image
from metaprompts.data.io.open_image import CheckSize
from metaprompts.data.io.video.frames import FrameSource
from metaprompts.errors import CaptionerError, InputError
from metaprompts.inference.video.api import VideoPredictor, predict_source
from metaprompts.inference.video.drawing import drawing_for, samples_for
from metaprompts.inference.video.outputs import VideoOutput
from metaprompts.models.model import MetaPromptModel
from metaprompts.tasks.predictions import Prediction
from metaprompts.utils.background import read_ahead
from metaprompts.utils.batches import batched
from metaprompts.utils.progress import ProgressBar, report_lines
from metaprompts.utils.wording import counted
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
    """Predicts images group by group, and reads the next group in the background.

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


@dataclass(frozen=True, kw_only=True)
class VideoPredictions:
    """Predicts videos with the models of a command.

    Attributes:
        options: the video options
        inference: the models
        captions: captions, if the models read them
        batch_size: maximum number of frames per pass
        files: the settings of the predictions' files
    """

    options: VideoOptions
    inference: InferenceOptions
    captions: CaptionOf | None
    batch_size: int
    files: PredictionFiles

    def predict_all(self, videos: Sequence[FrameSource]) -> tuple[list[str], list[str]]:
        """Predict videos; one that fails does not stop the others.

        Args:
            videos: the videos to predict

        Returns:
            a line for each video that failed, and for each problem in the others
        """
        failures, problems = list[str](), list[str]()
        for video in videos:
            try:
                problems += self.predict(video, self.files.names[video.path])
            except InputError as error:
                text = str(error)
                failures.append(text if text.startswith(video.name) else f"{video.name}: {text}")
        return failures, problems

    def predict(self, video: FrameSource, name: Path) -> list[str]:
        """Predict a video with all models.

        Args:
            video: the video to predict
            name: path of its results below the output folder, without endings

        Returns:
            parts of the video that could not be read, one line each

        Raises:
            InputError: nothing could be predicted
            KeyboardInterrupt: after an interrupt; the predictions made so far are written
        """
        height, width = video.size
        self.inference.check_size(width, height)
        jobs = [self._job(model, video, name) for model in self.inference.models]
        with ProgressBar(f"predicting {video.name}", video.expected) as bar:
            is_whole = predict_source(video, jobs, batch_size=self.batch_size, advance=bar.advance)
        for _, output in jobs:
            done = f"{counted(output.frames, 'frame')} in {output.path}"
            report_lines([f"{video.name}: {'' if is_whole else 'stopped, '}{done}"])
            report_lines(f"{video.name}: {note}" for note in output.notes)
        if not is_whole:
            raise KeyboardInterrupt
        return [f"{video.name}: {problem}" for problem in video.problems]

    def _job(self, model: MetaPromptModel, video: FrameSource, name: Path) -> tuple[VideoPredictor, VideoOutput]:
        def predict(inputs: Any, raw_filter: Any) -> Iterator[Any]:
            predictions = self.inference.predictions(model, inputs, raw_filter)
            return (self.files.people.distinct(model, each) for each in predictions)

        images = samples_for(model.task.name, video)
        caption_of = self.captions if model.config.prompts.kind == "caption" else None
        predictor = VideoPredictor(
            predict,
            model.task.name,
            steady=self.options.temporal != "off",
            boxes_of=self.files.people.detector if model.task.reads_boxes else None,
            caption=None if caption_of is None else caption_of(video.path, images[0]),
        )
        drawing = drawing_for(list(predictor.sample(images)), legend=self.files.legend, min_score=self.files.min_score)
        report_lines([f"{video.name}: {drawing.note}"] if drawing.note else [])
        container, folder = self.options.video_format or "mp4", (self.files.out / name).parent
        output = VideoOutput(
            path=folder / f"{name.name}_{drawing.ending}.{container}",
            stem=name.name,
            container=container,
            source=video,
            drawing=drawing,
            from_start=not self.options.start,
            raw=folder / f"{name.name}_frames" if self.files.raw else None,
        )
        return predictor, output
