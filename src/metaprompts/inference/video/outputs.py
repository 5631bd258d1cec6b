"""The files of one video's predictions: the clip, people as JSON lines, classes as JSON."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from metaprompts.data.io.video.frames import FrameSource, VideoFrame
from metaprompts.data.io.video.writer import VideoWriter
from metaprompts.inference.video.drawing import Drawing
from metaprompts.tasks.predictions import PersonPose, PosePrediction, Prediction, SegmentationPrediction
from metaprompts.utils.files import json_line, write_json, write_whole
from metaprompts.utils.held_signals import holding_signals
from metaprompts.visualize.segmentation import class_entries

AddFrame = Callable[[Any, float, Sequence[int]], None]
"""Adds the next frame to a sidecar file: its prediction, its time and, for pose, the number of each person."""


@dataclass(eq=False, kw_only=True)
class VideoOutput:
    """Writes a clip of drawn predictions and its sidecar files; they appear when the block ends without an error.

    Attributes:
        path: the clip
        stem: prefix of the names of sidecar files
        container: "mp4" or "webm"
        source: the predicted video
        drawing: how frames are drawn
        from_start: whether time 0 is the start of the source, instead of the first selected frame
        raw: folder for the files of every frame, as for images; None to write no such files
    """

    path: Path
    stem: str
    container: str
    source: FrameSource
    drawing: Drawing
    from_start: bool = True
    raw: Path | None = None

    def __post_init__(self) -> None:
        self._stack = ExitStack()

    @property
    def frames(self) -> int:
        """Number of frames written."""
        return self._writer.frames

    @property
    def notes(self) -> list[str]:
        """Parts that are missing from the clip, one line each."""
        return self._writer.notes

    def __enter__(self) -> Self:
        scratch = self._stack.enter_context(write_whole(self.path))
        writer = VideoWriter(
            scratch,
            container=self.container,
            rate=self.source.rate,
            time_base=self.source.time_base,
            pixel_aspect=self.source.pixel_aspect,
            sound=self.source.sound,
        )
        self._writer = self._stack.enter_context(writer)
        return self

    def write(self, frame: VideoFrame, prediction: Prediction, numbers: Sequence[int] = ()) -> None:
        """Write the next frame; signals are handled before or after it.

        Args:
            frame: the frame to write
            prediction: prediction of the frame
            numbers: for pose, the number of each person
        """
        drawn = self.drawing.frame(prediction)
        with holding_signals():
            if not self.frames:
                self._begin(frame, prediction)
            if self.raw is not None:
                prediction.save(self.raw, f"{self.frames:06d}", raw=True)
            self._add(prediction, float(frame.time_s), numbers)
            self._writer.write(drawn, frame.time_s - self._begin_s, sound_start_s=self._begin_s)

    def _begin(self, frame: VideoFrame, prediction: Prediction) -> None:
        self._begin_s = Fraction(0) if self.from_start else frame.time_s
        self._add = self._stack.enter_context(sidecar_for(prediction, self.path.parent, self.stem))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with holding_signals():
            self._stack.__exit__(kind, error, trace)


def sidecar_for(prediction: Any, folder: Path, stem: str) -> AbstractContextManager[AddFrame]:
    """The sidecar file for a video's predictions, if the task has one; it appears if the block ends without an error.

    Pose: ``STEM_pose.jsonl``; segmentation: ``STEM_classes.json``.
    """
    if isinstance(prediction, PosePrediction):
        return _people_lines(folder / f"{stem}_pose.jsonl")
    if isinstance(prediction, SegmentationPrediction):
        return _class_shares(folder / f"{stem}_classes.json", prediction.classes)
    return nullcontext(lambda prediction, time_s, numbers: None)


@contextmanager
def _people_lines(path: Path) -> Iterator[AddFrame]:
    """Write a line for each frame; a person keeps the same number throughout."""
    frames = count()
    with write_whole(path) as scratch, scratch.open("w", encoding="utf-8") as file:

        def add(prediction: PosePrediction, time_s: float, numbers: Sequence[int]) -> None:
            people = [_entry(person, number) for person, number in zip(prediction.people, numbers, strict=True)]
            file.write(json_line({"frame": next(frames), "time": round(time_s, 6), "people": people}))

        yield add


@contextmanager
def _class_shares(path: Path, classes: Sequence[str]) -> Iterator[AddFrame]:
    """The classes with their colors and their average shares over the frames."""
    total, frames = np.zeros(len(classes)), 0

    def add(prediction: SegmentationPrediction, time_s: float, numbers: Sequence[int]) -> None:
        nonlocal total, frames
        shares = prediction.shares()
        total, frames = total + [shares.get(name, 0.0) for name in classes], frames + 1

    yield add
    if frames:
        write_json(path, class_entries(classes, (total / frames).tolist()))


def _entry(person: PersonPose, number: int) -> dict[str, Any]:
    joints = np.column_stack([person.keypoints, person.scores]).astype(float)
    return {
        "track_id": number,
        "bbox": [float(value) for value in person.box_xywh],
        "score": float(person.score),
        "keypoints": joints.round(3).tolist(),
    }
