"""Predict a video from Python, as a clip or frame by frame."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaprompts.data.io.video.frames import FrameSource, Selection
from metaprompts.data.io.video.open import open_video
from metaprompts.errors import InputError
from metaprompts.inference.predict import RawFilter, predict_many
from metaprompts.inference.video.drawing import drawing_for, samples_for
from metaprompts.inference.video.outputs import VideoOutput
from metaprompts.inference.video.run import VideoJob, predict_source
from metaprompts.inference.video.temporal import Inputs, VideoPredictor
from metaprompts.tasks.predictions import Prediction
from metaprompts.tasks.predictor import ImagePredictor
from metaprompts.utils.batches import read_batches
from metaprompts.utils.progress import ProgressBar


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
        path, stem=path.stem, container=container, source=video, drawing=drawing, from_start=from_start
    )
    job = VideoJob(predictor=predictor, output=output)
    with ProgressBar(f"predicting {video.name}", video.expected, quiet=not progress) as bar:
        if not predict_source(video, [job], batch_size=batch_size, advance=bar.advance):
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
