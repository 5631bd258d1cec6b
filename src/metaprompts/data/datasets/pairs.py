"""Images that each have one label file, such as a depth map."""

from collections.abc import Sequence
from pathlib import Path

from metaprompts.data.io.decoding import ReadsImages
from metaprompts.data.io.depth_files import DepthEncoding, read_depth_m
from metaprompts.data.io.orientation import read_pair
from metaprompts.data.sample import Sample


class FilePairs(ReadsImages):
    """Pairs of image and label file.

    Args:
        pairs: image and label file of each sample
    """

    def __init__(self, pairs: Sequence[tuple[Path, Path]]) -> None:
        self._pairs = list(pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def path(self, index: int) -> str:
        """The path of a sample's image."""
        return str(self._pairs[index][0])

    def files(self, index: int) -> tuple[Path, ...]:
        """A sample's image and label file."""
        return self._pairs[index]


class DepthPairs(FilePairs):
    """Pairs of images and depth files.

    Args:
        pairs: image and depth file of each sample
        encoding: meaning of the numbers in depth files
    """

    def __init__(self, pairs: Sequence[tuple[Path, Path]], encoding: DepthEncoding) -> None:
        super().__init__(pairs)
        self.encoding = encoding

    def __getitem__(self, index: int) -> Sample:
        """Read one image and its depth.

        Returns:
            a sample with ``depth_m`` in meters, 0 where nothing was measured

        Raises:
            InputError: a file is invalid, sizes differ, or an EXIF orientation makes the alignment ambiguous
        """
        image_path, depth_path = self._pairs[index]
        image, depth_m = read_pair(image_path, depth_path, lambda path: read_depth_m(path, self.encoding), self.reading)
        return Sample(image=image, path=str(image_path), depth_m=depth_m)
