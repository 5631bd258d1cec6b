"""Images that each have one label file."""

from collections.abc import Sequence
from pathlib import Path

from metaprompts.data.io.decoding import ReadsImages


class FilePairs(ReadsImages):
    """Pairs of image and label file.

    Args:
        pairs: image and label file of each sample
    """

    def __init__(self, pairs: Sequence[tuple[Path, Path]]) -> None:
        self._pairs = list(pairs)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._pairs)

    def path(self, index: int) -> str:
        """The path of a sample's image."""
        return str(self._pairs[index][0])

    def files(self, index: int) -> tuple[Path, ...]:
        """A sample's image and label file."""
        return self._pairs[index]
