"""Open a video: a clip, a folder of frames, or a camera, which is a video of unlimited length."""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from metaprompts.data.io.images import images_in, read_image
from metaprompts.data.io.video.clip import Clip
from metaprompts.data.io.video.frames import EVERY_FRAME, FrameSource, Selection, VideoFrame
from metaprompts.errors import InputError

_USUAL_RATE = 30
_LARGEST_DENOMINATOR = 1001


def open_video(
    source: str | Path | int | Sequence[Path], *, fps: float | None = None, selection: Selection = EVERY_FRAME
) -> FrameSource:
    """Open a video.

    Args:
        source: the path of a clip, or of a folder of frames; a list of images; or the number of a camera
        fps: frames per second of a folder or list
        selection: the frames to read

    Raises:
        InputError: the source cannot be read, is a folder given without ``fps``, or is not a folder but given with
        ``fps``
    """
    if isinstance(source, int):
        return Camera(source, selection)
    if not isinstance(source, str | Path):
        return _frames(Path(source[0]).parent if source else Path(), source, fps, selection)
    path = Path(source).expanduser()
    if path.is_dir():
        return _frames(path, images_in(path), fps, selection)
    if fps is not None:
        raise InputError(f"fps is {fps:g}, but {path} is not a folder: a clip has its own frame rate")
    return Clip(path, selection)


def _frames(folder: Path, images: Sequence[Path], fps: float | None, selection: Selection) -> FrameSource:
    if fps is None:
        raise InputError(f"{folder} is a folder: give fps, the frame rate of its images")
    return FrameFolder(folder, images, fps, selection)


class FrameFolder(FrameSource):
    """A video of image files; images whose size differs from that of the first are skipped and reported.

    Args:
        folder: folder of the images, for messages
        images: the files; sorted so that 10 follows 9
        fps: frames per second
        selection: the frames to read

    Raises:
        InputError: there are no images, or the first cannot be read
    """

    def __init__(self, folder: Path, images: Sequence[Path], fps: float, selection: Selection = EVERY_FRAME) -> None:
        if not images:
            raise InputError(f"{folder} holds no images; expected the frames of a video")
        self.path, self.name, self.problems = folder, str(folder), list[str]()
        self._images, self._selection = sorted(images, key=_natural), selection
        # 29.97 means 30000/1001.
        self.rate = Fraction(fps).limit_denominator(_LARGEST_DENOMINATOR)
        self.time_base = 1 / self.rate
        self.size = read_image(self._images[0]).shape[:2]
        self.expected = len(list(self._selection.of(self._timed())))

    def __iter__(self) -> Iterator[VideoFrame]:
        """Read the selected frames."""
        self.problems.clear()
        for time_s, path in self._selection.of(self._timed()):
            image = self._read(path)
            if image is not None:
                yield VideoFrame(image=image, time_s=time_s)

    def sample(self, count: int) -> list[NDArray[np.uint8]]:
        """Images of up to ``count`` frames, spread over the selected part."""
        paths = [path for _, path in self._selection.of(self._timed())]
        images = [self._read(path) for path in paths[:: max(1, -(-len(paths) // count))]]
        self.problems.clear()
        return [image for image in images if image is not None]

    def _timed(self) -> Iterator[tuple[Fraction, Path]]:
        for number, path in enumerate(self._images):
            yield number * self.time_base, path

    def _read(self, path: Path) -> NDArray[np.uint8] | None:
        try:
            image = read_image(path)
        except InputError as error:
            self.problems.append(str(error))
            return None
        if image.shape[:2] != self.size:
            height, width = image.shape[:2]
            self.problems.append(f"{path} is {height}x{width}; expected {self.size[0]}x{self.size[1]}, like the first")
            return None
        return image


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
        self.rate = Fraction(fps if 1 <= fps <= 1000 else _USUAL_RATE).limit_denominator(_LARGEST_DENOMINATOR)

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


def _natural(path: Path) -> list[tuple[int, str]]:
    """A sort key that puts frame10 after frame9."""
    parts = re.split(r"(\d+)", path.as_posix())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
