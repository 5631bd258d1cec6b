"""The files of one video's predictions."""

from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

from metaprompts.data.io.video.frames import FrameSource, VideoFrame
from metaprompts.data.io.video.writer import VideoWriter
from metaprompts.inference.video.drawing import Drawing
from metaprompts.inference.video.sidecars import Sidecar, sidecar_for
from metaprompts.tasks.predictions import Prediction
from metaprompts.utils.files import write_whole
from metaprompts.utils.held_signals import holding_signals


class VideoOutput:
    """Writes a clip of drawn predictions and its sidecar files; they appear when the block ends without an error.

    Args:
        path: the clip
        stem: prefix of the names of sidecar files
        container: "mp4" or "webm"
        source: the predicted video
        drawing: how frames are drawn
        from_start: whether time 0 is that of the source, instead of the first selected frame
        raw: folder for the files of every frame, as for images; None to write no such files
    """

    def __init__(
        self,
        path: Path,
        *,
        stem: str,
        container: str,
        source: FrameSource,
        drawing: Drawing,
        from_start: bool = True,
        raw: Path | None = None,
    ) -> None:
        self.path, self._stem, self._container = path, stem, container
        self._source, self._drawing, self._from_start, self._raw = source, drawing, from_start, raw
        self._stack, self._begin_s = ExitStack(), Fraction(0)
        self._sidecar: Sidecar | None = None
        self._writer: VideoWriter

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
        self._writer = VideoWriter(
            scratch,
            container=self._container,
            rate=self._source.rate,
            time_base=self._source.time_base,
            pixel_aspect=self._source.pixel_aspect,
            sound=self._source.sound,
        )
        self._stack.enter_context(self._writer)
        return self

    def write(self, frame: VideoFrame, prediction: Prediction, numbers: Sequence[int] = ()) -> None:
        """Write the next frame; signals are handled before or after it.

        Args:
            frame: the frame to write
            prediction: prediction of the frame
            numbers: for pose, the number of each person
        """
        drawn = self._drawing.frame(prediction)
        with holding_signals():
            if not self.frames:
                self._begin(frame, prediction)
            if self._raw is not None:
                prediction.save(self._raw, f"{self.frames:06d}", raw=True)
            if self._sidecar is not None:
                self._sidecar.add(prediction, float(frame.time_s), numbers)
            self._writer.write(drawn, frame.time_s - self._begin_s, sound_start_s=self._begin_s)

    def _begin(self, frame: VideoFrame, prediction: Prediction) -> None:
        self._begin_s = Fraction(0) if self._from_start else frame.time_s
        sidecar = sidecar_for(prediction, self.path.parent, self._stem)
        if sidecar is not None:
            self._sidecar = self._stack.enter_context(sidecar)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with holding_signals():
            self._stack.__exit__(kind, error, trace)
