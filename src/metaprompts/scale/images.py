"""Read the images of a batch or a slice."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.io.images import read_image
from metaprompts.errors import InputError
from metaprompts.scale.parquet_source import read_rows
from metaprompts.scale.source import Item
from metaprompts.scale.storage import is_url, reaching


@dataclass(frozen=True, eq=False)
class Content:
    """One image file.

    Attributes:
        name: name of the image in the results
        content: the file's bytes; None for the local file ``name``
        error: why the bytes cannot be read
    """

    name: str
    content: bytes | None = None
    error: str | None = None

    def file_bytes(self) -> bytes:
        """The bytes of the file."""
        return Path(self.name).read_bytes() if self.content is None else self.content

    def pixels(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB.

        Raises:
            InputError: the image cannot be read; the message names it
        """
        if self.error is not None:
            raise InputError(self.error)
        if self.content is None:
            return read_image(Path(self.name))
        # Some formats are decoded by libraries that only read files.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"image{Path(self.name).suffix}"
            path.write_bytes(self.content)
            try:
                return read_image(path)
            except InputError as error:
                raise InputError(str(error).replace(str(path), self.name)) from error


def read_items(items: Sequence[Item]) -> Iterator[Content]:
    """Yield the images of a slice in order; an unreadable image has an error."""
    first = items[0]
    try:
        if first.at < 0:
            yield from map(_read_file, items)
        elif first.size < 0:
            rows = read_rows(first.file, [item.at for item in items])
            yield from (Content(item.name, content) for item, content in zip(items, rows, strict=True))
        else:
            with reaching(first.file) as (files, path), files.open(path, "rb") as tar:
                for item in items:
                    tar.seek(item.at)
                    yield Content(item.name, tar.read(item.size))
    except InputError as error:
        raise InputError(f"{first.file} can no longer be read: {error}") from error


def _read_file(item: Item) -> Content:
    if not is_url(item.file):
        return Content(item.file)
    try:
        with reaching(item.file) as (files, path):
            return Content(item.name, files.cat_file(path))
    except InputError as error:
        return Content(item.name, error=str(error))
