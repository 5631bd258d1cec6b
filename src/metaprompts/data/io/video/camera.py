"""A camera, as a video of unlimited length."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from metaprompts.data.io.video.frames import EVERY_FRAME, FrameSource, Selection, VideoFrame
from metaprompts.errors import InputError

_USUAL_RATE = 30


class Camera(FrameSource):
    """A camera by its number; frames are read when needed, and their time is the time of reading.

    Args:
        number: 0 for the first camera
        selection: the frames to read

    Raises:
        InputError: the camera does not exist, or returns no image
    """

    time_base = Fraction(1, 90_000)

    def __init__(self, number: int, selection: Selection = EVERY_FRAME) -> None:
        self.name, self.path, self.problems = f"camera {number}", Path(f"camera{number}"), list[str]()
        self._number, self._selection = number, selection
        with self._opened() as capture:
            self.size = self._image(capture).shape[:2]
            fps = capture.get(cv2.CAP_PROP_FPS)
        self.rate = Fraction(fps if 1 <= fps <= 1000 else _USUAL_RATE).limit_denominator(1001)

    def __iter__(self) -> Iterator[VideoFrame]:
        """Read the selected frames until the camera is unplugged."""
        self.problems.clear()
        with self._opened() as capture:
            for time_s, image in self._selection.of(self._timed(capture)):
                yield VideoFrame(image=image, time_s=time_s)

    def sample(self, count: int) -> list[NDArray[np.uint8]]:
        """One image."""
        del count
        with self._opened() as capture:
            return [self._image(capture)]

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        capture = cv2.VideoCapture(self._number)
        try:
            if not capture.isOpened():
                raise InputError(f"{self.name} cannot be opened: check that it is connected and not in use")
            yield capture
        finally:
            capture.release()

    def _timed(self, capture: Any) -> Iterator[tuple[Fraction, NDArray[np.uint8]]]:
        begin, last_s = time.monotonic(), Fraction(-1)
        while True:
            try:
                image = self._image(capture)
            except InputError as error:
                self.problems.append(str(error))
                return
            ticks = round((time.monotonic() - begin) / self.time_base)
            last_s = max(ticks * self.time_base, last_s + self.time_base) if last_s >= 0 else Fraction(0)
            yield last_s, image

    def _image(self, capture: Any) -> NDArray[np.uint8]:
        found, image = capture.read()
        if not found or image is None:
            raise InputError(f"{self.name} returned no image: check that it is not in use")
        return np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
