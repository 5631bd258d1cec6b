"""The slices of a job, on disk: memory does not grow with the number of images."""

import json
import tempfile
import zlib
from collections.abc import Iterable, Iterator

from metaprompts.scale.source import Item, Slice

_LENGTH_BYTES = 4


class Plan:
    """The slices of a source in order.

    Args:
        slices: read once

    Attributes:
        images: number of images
    """

    def __init__(self, slices: Iterable[Slice]) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._count = self.images = 0
        for part in slices:
            self._count, self.images = self._count + 1, self.images + len(part.items)
            packed = pack(part)
            self._file.write(len(packed).to_bytes(_LENGTH_BYTES) + packed)

    def __len__(self) -> int:
        """Return the number of slices."""
        return self._count

    def __iter__(self) -> Iterator[Slice]:
        """Read the slices, even while another iteration is running."""
        at = 0
        while True:
            self._file.seek(at)
            length = int.from_bytes(self._file.read(_LENGTH_BYTES))
            if not length:
                return
            part = unpack(self._file.read(length))
            at += _LENGTH_BYTES + length
            yield part


def pack(part: Slice) -> bytes:
    """Serialize a slice to a few bytes."""
    return zlib.compress(json.dumps([part.number, part.first, part.items]).encode(), level=1)


def unpack(packed: bytes) -> Slice:
    """Restore a slice serialized by `pack`."""
    number, first, items = json.loads(zlib.decompress(packed))
    return Slice(number=number, first=first, items=tuple(Item(*item) for item in items))
