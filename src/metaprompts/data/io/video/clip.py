"""Read a clip frame by frame."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.io.video.frames import EVERY_FRAME, FrameSource, Selection, VideoFrame, exact, load_av
from metaprompts.errors import InputError
from metaprompts.utils.wording import counted

ImageArray = NDArray[np.uint8]
_USUAL_RATE = Fraction(25)
# A clip that ends this many frames, or seconds, before its stated end is reported as cut off.
_LOST_FRAMES, _LOST_SECONDS = 3, 0.1


class Clip(FrameSource):
    """A video file. Broken packets are skipped and counted; a file that ends too early is reported.

    Args:
        path: path of the file
        selection: the frames to read

    Raises:
        InputError: the file is missing, holds no video, or none of its frames can be decoded
    """

    def __init__(self, path: Path, selection: Selection = EVERY_FRAME) -> None:
        self.path, self.name, self.sound, self.problems = path, str(path), path, list[str]()
        self._selection = selection
        with self._opened() as (container, stream):
            self.time_base = stream.time_base
            self.rate = stream.average_rate or stream.guessed_rate or _USUAL_RATE
            self.pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
            self._origin_s = Fraction(container.start_time or 0, 1_000_000)
            self._duration_s = _duration_s(container, stream)
            first = next((frame for _, frame in self._decoded(container, stream)), None)
        if first is None:
            raise InputError(f"{path} has no frame that can be decoded: the file is empty or broken")
        self.size = _upright(first, None).shape[:2]
        if (first.rotation // 90) % 2:
            self.pixel_aspect = 1 / self.pixel_aspect
        if self._duration_s is not None:
            self.expected = selection.count(self.rate, self._duration_s)

    def __iter__(self) -> Iterator[VideoFrame]:
        """Read the selected frames, all at the size of the first."""
        self.problems.clear()
        with self._opened() as (container, stream):
            if self._selection.start_s:
                _seek(container, stream, self._origin_s + exact(self._selection.start_s))
            for time_s, frame in self._selection.of(self._decoded(container, stream)):
                yield VideoFrame(image=_upright(frame, self.size), time_s=time_s)

    def sample(self, count: int) -> list[ImageArray]:
        """Images of up to ``count`` frames, spread over the selected part."""
        start_s = self._selection.start_s
        ends_s = [float(end_s) for end_s in (self._selection.end_s, self._duration_s) if end_s is not None]
        end_s = max(min(ends_s, default=start_s), start_s)
        images = {}
        for number in range(count):
            time_s = exact(start_s + (end_s - start_s) * number / count)
            with self._opened() as (container, stream):
                _seek(container, stream, self._origin_s + time_s)
                found = next((each for each in self._decoded(container, stream) if each[0] >= time_s), None)
                if found is not None:
                    images[found[0]] = _upright(found[1], self.size)
        self.problems.clear()
        return list(images.values())

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        av = load_av()
        try:
            container = av.open(str(self.path), metadata_errors="replace")
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read {self.path} as video: {_reason(error)}") from error
        with container:
            # The cover image of a song is a video stream, too.
            cover = av.stream.Disposition.attached_pic
            streams = [each for each in container.streams.video if not each.disposition & cover]
            if not streams:
                raise InputError(f"{self.path} holds no video")
            streams[0].thread_type = "AUTO"
            yield container, streams[0]

    def _decoded(self, container: Any, stream: Any) -> Iterator[tuple[Fraction, Any]]:
        """Time and frame of all frames that can be decoded; times increase."""
        broken, last_s, end_s = 0, Fraction(-1), Fraction(0)
        for frames in _packets(container, stream, self.problems):
            if frames is None:
                broken += 1
                continue
            for frame in frames:
                time_s = end_s if frame.pts is None else frame.pts * frame.time_base - self._origin_s
                # Encoders need strictly increasing times.
                last_s = max(time_s, last_s + self.time_base) if last_s >= 0 else max(time_s, Fraction(0))
                end_s = last_s + (frame.duration * frame.time_base if frame.duration else 1 / self.rate)
                yield last_s, frame
        if broken:
            self.problems.append(f"{counted(broken, 'packet')} could not be decoded")
        missing_s = Fraction(0) if self._duration_s is None else self._duration_s - end_s
        if missing_s > max(float(_LOST_FRAMES / self.rate), _LOST_SECONDS):
            self.problems.append(f"it ends after {float(end_s):.2f} of {float(end_s + missing_s):.2f} seconds")


def _packets(container: Any, stream: Any, problems: list[str]) -> Iterator[list[Any] | None]:
    """The frames of each packet, or None if it is broken; ends where the file can no longer be read."""
    av = load_av()
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError) as error:
            problems.append(f"it cannot be read to its end: {_reason(error)}")
            return
        if packet is None:
            return
        try:
            yield packet.decode()
        except av.FFmpegError:
            yield None


def _duration_s(container: Any, stream: Any) -> Fraction | None:
    """The stated length of the video in seconds."""
    if stream.duration:
        return Fraction(stream.duration * stream.time_base)
    alone = len(container.streams) == 1
    return Fraction(container.duration, 1_000_000) if alone and container.duration else None


def _seek(container: Any, stream: Any, time_s: Fraction) -> None:
    """Seek to the last key frame before a time; files without an index are read from the beginning."""
    av = load_av()
    try:
        container.seek(int(time_s / stream.time_base), stream=stream)
    except av.FFmpegError:
        container.seek(0)


def _upright(frame: Any, size: tuple[int, ...] | None) -> ImageArray:
    """The pixels, rotated according to the metadata, and resized if the stream changes its size."""
    turns = round(frame.rotation / 90) % 4
    height, width = (frame.height, frame.width) if size is None else size[::-1] if turns % 2 else size
    image = frame.to_ndarray(format="rgb24", width=width, height=height)
    return np.ascontiguousarray(np.rot90(image, turns))


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
