"""Frames with time stamps and their selection, and the import of PyAV, which reads and writes clips."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from metaprompts.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True, eq=False, kw_only=True)
class VideoFrame:
    """A frame of a video.

    Attributes:
        image: (H,W,3) uint8 RGB, upright
        time_s: seconds since the beginning of the video, exact
    """

    image: NDArray[np.uint8]
    time_s: Fraction


def exact(seconds: float) -> Fraction:
    """The exact decimal number that a user typed, such as 0.2, which floats only approximate."""
    return Fraction(seconds).limit_denominator(1_000_000)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The part of a video to read.

    Attributes:
        every: read only one of every ``every`` frames
        start_s: time of the first frame in seconds
        end_s: time in seconds from which frames are skipped; None to read to the end

    Raises:
        InputError: nothing can be selected
    """

    every: int = 1
    start_s: float = 0.0
    end_s: float | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InputError(f"got every={self.every}; expected 1 or more")
        if self.start_s < 0:
            raise InputError(f"start is {self.start_s:g} seconds; expected 0 or more")
        if self.end_s is not None and self.end_s <= self.start_s:
            raise InputError(f"end is {self.end_s:g} seconds, start {self.start_s:g}; expected a later end")

    def of(self, timed: Iterable[tuple[Fraction, T]]) -> Iterator[tuple[Fraction, T]]:
        """The selected items of (time, frame) pairs in order; stops reading at the end."""
        number, start_s = 0, exact(self.start_s)
        end_s = None if self.end_s is None else exact(self.end_s)
        for time_s, frame in timed:
            if end_s is not None and time_s >= end_s:
                return
            if time_s >= start_s:
                if number % self.every == 0:
                    yield time_s, frame
                number += 1

    def count(self, rate: Fraction, duration_s: Fraction) -> int:
        """Approximate number of frames selected from a video of this rate and length."""
        end_s = float(duration_s) if self.end_s is None else min(self.end_s, float(duration_s))
        return -(-max(0, round((end_s - self.start_s) * rate)) // self.every)


EVERY_FRAME = Selection()
"""The whole video."""


class FrameSource(Protocol):
    """A video to read, once or several times.

    Attributes:
        name: the name of the video in messages
        path: path of the file or folder; for a camera, a name for its results
        size: height and width of the frames, in pixels
        rate: frames per second, on average
        time_base: the time unit in seconds; all frame times are multiples of it
        pixel_aspect: width of a pixel divided by its height
        sound: the file that holds the video's sound, if the video may have sound
        expected: approximate number of selected frames; None if the video has no end, or does not state its length
        problems: problems of the last read, one line each
    """

    name: str
    path: Path
    size: tuple[int, ...]
    rate: Fraction
    time_base: Fraction
    pixel_aspect: Fraction = Fraction(1)
    sound: Path | None = None
    expected: int | None = None
    problems: list[str]

    def __iter__(self) -> Iterator[VideoFrame]:
        """Read the selected frames."""

    def sample(self, count: int) -> list[NDArray[np.uint8]]:
        """Images of up to ``count`` frames, spread over the selected part."""


VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm"}
    | {".wmv"}
)
"""Lower-case extensions of clips."""


def load_av() -> Any:
    """Import the module `av`.

    Raises:
        InputError: PyAV is not installed
    """
    try:
        import av
    except ImportError as error:
        raise InputError(f"video needs PyAV ({error}): pip install 'metaprompts[video]'") from error
    return av
