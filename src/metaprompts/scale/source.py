"""List the images of a source: folders, patterns, lists, tar files, parquet files, on disk or at URLs."""

import glob
import hashlib
import json
import os
import tarfile
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Self

from metaprompts.data.io.file_search import walk_files, warn_of_passed_over
from metaprompts.data.io.images import IMAGE_SUFFIXES
from metaprompts.errors import InputError, one_line
from metaprompts.scale.parquet_source import parquet_rows
from metaprompts.scale.storage import is_url, local_copy, reaching, version, version_of
from metaprompts.scale.tar_members import tar_members
from metaprompts.utils.files import json_line

_TAR, _PARQUET, _LIST = ".tar", ".parquet", ".txt"
_DIGITS = 16
_LENGTH_BYTES = 4


class Item(NamedTuple):
    """The location of one image.

    Attributes:
        name: name of the image in the results
        file: the image file, or the tar or parquet file that contains it; a path or URL
        at: -1 for an image file, the offset in a tar file, the row of a parquet file
        size: number of bytes in a tar file, else -1
        version: changes when the file is replaced
    """

    name: str
    file: str
    at: int = -1
    size: int = -1
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Consecutive images of a source, which are labeled together.

    Attributes:
        number: index of the slice
        first: index of the slice's first image in the source
        items: the images
    """

    number: int
    first: int
    items: tuple[Item, ...]

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal digits that change with the images, their order or their position in the source."""
        text = json_line([self.number, self.first, self.items])
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_DIGITS]

    def packed(self) -> bytes:
        """Serialize the slice to a few bytes."""
        return zlib.compress(json.dumps([self.number, self.first, self.items]).encode(), level=1)

    @classmethod
    def unpacked(cls, packed: bytes) -> Self:
        """Restore a slice serialized by `packed`."""
        number, first, items = json.loads(zlib.decompress(packed))
        return cls(number=number, first=first, items=tuple(Item(*item) for item in items))


def slices(items: Iterable[Item], size: int) -> Iterator[Slice]:
    """Cut a source into slices; a slice has images from a single tar or parquet file, or only image files.

    Args:
        items: the images in order
        size: maximum number of images of a slice
    """
    number = first = 0
    group: list[Item] = []
    for item in items:
        if group and (len(group) == size or _container(item) != _container(group[0])):
            yield Slice(number=number, first=first, items=tuple(group))
            number, first, group = number + 1, first + len(group), []
        group.append(item)
    if group:
        yield Slice(number=number, first=first, items=tuple(group))


def _container(item: Item) -> str:
    return item.file if item.at >= 0 else ""


class Plan:
    """The slices of a source in order, on disk: memory does not grow with the number of images.

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
            packed = part.packed()
            self._file.write(len(packed).to_bytes(_LENGTH_BYTES) + packed)

    def __len__(self) -> int:
        """Return the number of slices."""
        return self._count

    def __iter__(self) -> Iterator[Slice]:
        """Read the slices, even while another iteration is running."""
        self._file.seek(0)
        while length := int.from_bytes(self._file.read(_LENGTH_BYTES)):
            packed, at = self._file.read(length), self._file.tell()
            yield Slice.unpacked(packed)
            self._file.seek(at)


def list_source(source: str, out: str) -> Iterator[Item]:
    """Yield the images of a source in a fixed order; only the names of one folder are in memory at a time.

    Args:
        source: a folder, which is searched recursively for images; a quoted pattern; an image; a .tar file; a .parquet
            file; or a .txt file with one of these in each line. Each is a path or a URL for fsspec
        out: output folder, which is not searched

    Raises:
        InputError: the source does not exist, cannot be read or has no images
    """
    skipped = Counter[str]()
    found = False
    for item in _items(source, out, skipped):
        found = True
        yield item
    if not found:
        raise InputError(f"no images in {source}: give a folder, a quoted pattern, a .txt list, .tar or .parquet files")
    warn_of_passed_over(skipped, source)


def _items(text: str, out: str, skipped: Counter[str], *, listed: bool = False) -> Iterator[Item]:
    suffix = PurePosixPath(text).suffix.lower()
    if any(sign in text for sign in "*?[") and (is_url(text) or not Path(text).exists()):
        for match in _matches(text):
            yield from _items(match, out, skipped)
    elif suffix == _TAR:
        yield from _in_tar(text, skipped)
    elif suffix == _PARQUET:
        for name, file, row in parquet_rows(text):
            yield Item(name, file, row, -1, version(text)) if row >= 0 else _file(file, listed=True)
    elif suffix == _LIST:
        yield from _in_list(text, out, skipped)
    elif suffix not in IMAGE_SUFFIXES and is_url(text):
        yield from _in_remote_folder(text, out, skipped)
    elif suffix not in IMAGE_SUFFIXES and Path(text).is_dir():
        yield from _in_folder(Path(text), out, skipped)
    else:
        # A file that is named explicitly may have any extension.
        yield _checked(text, listed=listed)


def _matches(pattern: str) -> list[str]:
    if not is_url(pattern):
        # Path.glob does not accept absolute patterns.
        return sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
    with reaching(pattern) as (files, path):
        return sorted(files.unstrip_protocol(match) for match in files.glob(path))


def _checked(text: str, *, listed: bool) -> Item:
    """An image file; a missing file is an error, but in a list it becomes a row with an error."""
    found = _file(text, listed=listed)
    if found.version == "missing" and not listed:
        raise InputError(f"{text} does not exist: give a folder, a quoted pattern, a .txt list, .tar or .parquet files")
    return found


def _file(text: str, *, listed: bool = False) -> Item:
    # Asking a remote store about every line of a list takes longer than listing a folder.
    return Item(text, text, version="" if listed and is_url(text) else version(text))


def _in_folder(folder: Path, out: str, skipped: Counter[str]) -> Iterator[Item]:
    # A source inside the output folder is still searched.
    own = [] if is_url(out) or os.path.realpath(out) == os.path.realpath(folder) else [Path(out)]
    for path in walk_files(folder, own):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            yield _file(str(path))
        else:
            skipped[path.suffix.lower()] += 1


def _in_remote_folder(url: str, out: str, skipped: Counter[str]) -> Iterator[Item]:
    with reaching(url) as (files, top):
        if not files.exists(top):
            raise FileNotFoundError
        for _, folders, found in files.walk(top, detail=True):
            # The walk visits subfolders in this order.
            for name in sorted(folders):
                folders[name] = folders.pop(name)
            for _, info in sorted(found.items()):
                name = files.unstrip_protocol(info["name"])
                suffix = PurePosixPath(name).suffix.lower()
                if name.startswith(f"{out.rstrip('/')}/"):
                    continue
                if suffix in IMAGE_SUFFIXES:
                    yield Item(name, name, version=version_of(info))
                else:
                    skipped[suffix] += 1


def _in_list(text: str, out: str, skipped: Counter[str]) -> Iterator[Item]:
    """The entries of a list; relative paths are relative to the list's folder."""
    folder = text.rpartition("/")[0]
    with local_copy(text) as path:
        try:
            with path.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
                for line in lines:
                    if entry := line.strip():
                        is_whole = is_url(entry) or entry.startswith("/") or not folder
                        yield from _items(entry if is_whole else f"{folder}/{entry}", out, skipped, listed=True)
        except OSError as error:
            raise InputError(f"list {text} cannot be read: {error.strerror}") from error


def _in_tar(text: str, skipped: Counter[str]) -> Iterator[Item]:
    """The images of a tar file: the files whose name after the first dot is an image suffix, as in WebDataset."""
    found = version(text)
    with reaching(text) as (files, path):
        try:
            with files.open(path, "rb") as file:
                for member in tar_members(file):
                    name = member.name.rpartition("/")[2]
                    ending = f".{name.partition('.')[2].lower()}"
                    if ending in IMAGE_SUFFIXES and not name.startswith("."):
                        yield Item(f"{text}/{member.name}", text, member.at, member.size, found)
                    else:
                        skipped[ending] += 1
        except tarfile.TarError as error:
            raise InputError(f"{text} is not a complete, uncompressed tar file ({one_line(error)})") from error
