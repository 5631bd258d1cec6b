"""Predict a video as a clip or frame by frame, in memory that does not depend on its length."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaprompts.data.io.video.frames import FrameSource, Selection, VideoFrame
from metaprompts.data.io.video.open import open_video
from metaprompts.errors import InputError
from metaprompts.inference.predict import RawFilter, predict_many
from metaprompts.inference.video.dense_filter import FILTERED, DenseFilter
from metaprompts.inference.video.drawing import drawing_for, samples_for
from metaprompts.inference.video.outputs import VideoOutput
from metaprompts.inference.video.tracks import PoseTracks
from metaprompts.tasks.predictions import PosePrediction, Prediction
from metaprompts.tasks.protocol import ImagePredictor
from metaprompts.utils.batches import read_batches
from metaprompts.utils.progress import ProgressBar
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


@dataclass(frozen=True, kw_only=True)
class VideoResult:
    """A written clip.

    Attributes:
        path: the clip
        frames: number of its frames
        problems: parts of the source that could not be read or are missing from the clip, one line each
    """

    path: Path
    frames: int
    problems: tuple[str, ...]


def predict_video(
    model: ImagePredictor,
    source: str | Path | int,
    out: str | Path,
    *,
    boxes: Callable[[Any], Any] | None = None,
    caption: str | None = None,
    every: int = 1,
    start_s: float = 0.0,
    end_s: float | None = None,
    fps: float | None = None,
    steady: bool = True,
    legend: bool = True,
    batch_size: int = 1,
    progress: bool = False,
) -> VideoResult:
    """Predict a video, and draw the predictions as a clip with its sound; memory does not depend on the length.

    An interrupt ends the clip after the current frame; the clip is complete, and KeyboardInterrupt is raised.

    Args:
        model: the predicting model
        source: path of a clip, or of a folder of frames (with ``fps``); or the number of a camera
        out: the clip to write, ``.mp4`` or ``.webm``; pose writes the joints next to it, as ``STEM_pose.jsonl``, and
            segmentation the classes, as ``STEM_classes.json``
        boxes: (pose) detector that finds people, see `metaprompts.load_detector`; by default the whole frame is treated
            as one person
        caption: caption for all frames, if the prompts are captions
        every: predict only one of every ``every`` frames
        start_s: begin at this time in seconds
        end_s: end before this time in seconds
        fps: frames per second of a folder
        steady: average depth, classes and normals along the optical flow, and smooth joints
        legend: draw a legend below each frame
        batch_size: frames per forward pass
        progress: show a progress bar

    Raises:
        InputError: the video cannot be read, has no selected frame, or the clip cannot be written
    """
    path = Path(out).expanduser()
    container = path.suffix.lower().removeprefix(".")
    video = _opened(source, fps, every, start_s, end_s)
    predictor = _predictor(model, boxes, caption, batch_size, steady=steady)
    drawing = drawing_for(list(predictor.sample(samples_for(model.task.name, video))), legend=legend)
    from_start = not start_s
    output = VideoOutput(
        path=path, stem=path.stem, container=container, source=video, drawing=drawing, from_start=from_start
    )
    with ProgressBar(f"predicting {video.name}", video.expected, quiet=not progress) as bar:
        if not predict_source(video, [(predictor, output)], batch_size=batch_size, advance=bar.advance):
            raise KeyboardInterrupt
    return VideoResult(path=path, frames=output.frames, problems=(*video.problems, *output.notes))


def predict_frames(
    model: ImagePredictor,
    source: str | Path | int,
    *,
    boxes: Callable[[Any], Any] | None = None,
    caption: str | None = None,
    every: int = 1,
    start_s: float = 0.0,
    end_s: float | None = None,
    fps: float | None = None,
    steady: bool = True,
    batch_size: int = 1,
) -> Iterator[tuple[float, Prediction]]:
    """Predict a video frame by frame; the arguments are those of `predict_video`.

    Yields:
        the time of each frame in seconds, and its prediction
    """
    predictor = _predictor(model, boxes, caption, batch_size, steady=steady)
    for frames in read_batches(_opened(source, fps, every, start_s, end_s), batch_size):
        for frame, prediction in zip(frames, predictor(frames), strict=True):
            yield float(frame.time_s), prediction


def predict_source(
    source: FrameSource,
    jobs: Sequence[tuple[VideoPredictor, VideoOutput]],
    *,
    batch_size: int = 1,
    advance: Callable[[int], None] = lambda count: None,
) -> bool:
    """Predict all selected frames and write them.

    Ctrl-C ends the video after the current frame: the files then contain all predictions made so far.

    Args:
        source: the video
        jobs: the predictors and their output files
        batch_size: number of frames held in memory
        advance: called with the number of frames done

    Returns:
        whether all frames were predicted, without an interrupt

    Raises:
        InputError: no frame is selected, or a file cannot be written; then there are no files
        KeyboardInterrupt: before the first frame was written
    """
    with ExitStack() as stack:
        outputs = [stack.enter_context(output) for _, output in jobs]
        try:
            for frames in read_batches(source, batch_size):
                for predictor, output in jobs:
                    for frame, prediction in zip(frames, predictor(frames), strict=True):
                        output.write(frame, prediction, predictor.tracks.numbers)
                advance(len(frames))
        except KeyboardInterrupt:
            if not all(output.frames for output in outputs):
                raise
            return False
        if not all(output.frames for output in outputs):
            raise InputError(f"{source.name} has no frame in the selected time range")
    return True


def _opened(
    source: str | Path | int, fps: float | None, every: int, start_s: float, end_s: float | None
) -> FrameSource:
    return open_video(source, fps=fps, selection=Selection(every=every, start_s=start_s, end_s=end_s))


def _predictor(
    model: ImagePredictor, boxes: Callable[[Any], Any] | None, caption: str | None, batch_size: int, *, steady: bool
) -> VideoPredictor:
    if boxes is not None and not callable(boxes):
        raise InputError(f"boxes of a video are {type(boxes).__name__}; expected a detector, see load_detector")

    def predict(inputs: Inputs, raw_filter: RawFilter | None) -> Iterator[Prediction]:
        return predict_many(model, inputs, batch_size, raw_filter=raw_filter)

    return VideoPredictor(predict, model.task.name, steady=steady, boxes_of=boxes, caption=caption)
