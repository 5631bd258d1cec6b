"""Images of a folder as the frames of a video."""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.io.images import read_image
from metaprompts.data.io.video.frames import EVERY_FRAME, FrameSource, Selection, VideoFrame
from metaprompts.errors import InputError

_LARGEST_DENOMINATOR = 1001


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


def _natural(path: Path) -> list[tuple[int, str]]:
    """A sort key that puts frame10 after frame9."""
    parts = re.split(r"(\d+)", path.as_posix())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
