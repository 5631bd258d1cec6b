"""Temporally smoothed predictions of consecutive frames, for every task."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from metaprompts.data.io.video.frames import VideoFrame
from metaprompts.inference.predict import RawFilter
from metaprompts.inference.video.dense_filter import FILTERED, DenseFilter
from metaprompts.inference.video.tracks import PoseTracks
from metaprompts.tasks.predictions import PosePrediction, Prediction
from metaprompts.visualize.text import ImageArray

Inputs = Sequence[tuple[ImageArray, Any, Any]]
PredictImages = Callable[[Inputs, RawFilter | None], Iterator[Prediction]]
"""(image, boxes or None, caption or None) of each image, and a filter of raw outputs -> predictions."""


class VideoPredictor:
    """Predicts the frames of one video in order.

    Args:
        predict: predicts images
        task: name of the task
        steady: whether depth, classes and normals are averaged along the optical flow, and joints are smoothed
        boxes_of: finds the people in an image; if None, the whole image is treated as one person
        caption: caption for all frames, if the model reads captions

    Attributes:
        tracks: the tracked people, for pose
    """

    def __init__(
        self,
        predict: PredictImages,
        task: str,
        *,
        steady: bool = True,
        boxes_of: Callable[[ImageArray], Any] | None = None,
        caption: Any = None,
    ) -> None:
        self._predict, self._boxes_of, self._caption = predict, boxes_of, caption
        self._filter = DenseFilter(task) if steady and task in FILTERED else None
        self.tracks = PoseTracks(smooths=steady)

    def __call__(self, frames: Sequence[VideoFrame]) -> Iterator[Prediction]:
        """Predict the next frames.

        Args:
            frames: the frames, in order of time, and later than those of earlier calls
        """
        predictions = self._predict(self.inputs([frame.image for frame in frames]), self._filter)
        for frame, prediction in zip(frames, predictions, strict=True):
            yield self.tracks(prediction, frame.time_s) if isinstance(prediction, PosePrediction) else prediction

    def sample(self, images: Sequence[ImageArray]) -> Iterator[Prediction]:
        """Predict images independently of each other."""
        for image in images:
            yield from self._predict(self.inputs([image]), None)

    def inputs(self, images: Sequence[ImageArray]) -> Inputs:
        """The images with their people and captions."""
        return [(image, None if self._boxes_of is None else self._boxes_of(image), self._caption) for image in images]
