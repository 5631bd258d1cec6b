"""Files in local folders, or anywhere that fsspec can access."""

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from metaprompts.errors import InputError, one_line
from metaprompts.utils.files import write_whole
from metaprompts.utils.scratch import remove_scratch

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# What storage systems report about the version of a file.
_VERSION_KEYS = ("size", "ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created", "md5Hash")


def is_url(text: str) -> bool:
    """Whether a path is a URL for fsspec, such as s3://bucket/folder."""
    return _URL.match(text) is not None


@contextmanager
def reaching(url: str) -> Iterator[tuple[Any, str]]:
    """Yield the file system of a URL and the path in it; errors in the block become one line.

    Raises:
        InputError: the file system is unknown, not installed or not reachable, or the block failed
    """
    import fsspec

    try:
        yield fsspec.core.url_to_fs(url)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{url} does not exist: check the URL") from error
    # Every file system raises its own error types.
    except Exception as error:
        raise InputError(f"{url} cannot be accessed: {one_line(error)}") from error


def version(url: str) -> str:
    """A string that changes when a file is replaced; "missing" if there is no file.

    Raises:
        InputError: the file system of a URL is unknown or not installed
    """
    if not is_url(url):
        try:
            found = Path(url).stat()
        except (OSError, ValueError):
            return "missing"
        return f"{found.st_size} {found.st_mtime_ns}"
    with reaching(url) as (files, path):
        try:
            return version_of(files.info(path))
        except FileNotFoundError:
            return "missing"


def version_of(info: Mapping[str, Any]) -> str:
    """The version of a file, from the metadata that its file system reports."""
    return " ".join(str(info[key]) for key in _VERSION_KEYS if key in info)


@contextmanager
def local_copy(url: str) -> Iterator[Path]:
    """Yield a local file with the content of a file or URL.

    Raises:
        InputError: the URL cannot be read
    """
    if not is_url(url):
        yield Path(url)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / (url.rsplit("/", 1)[-1] or "file")
        with reaching(url) as (files, place):
            files.get_file(place, str(path))
        yield path


@dataclass(frozen=True)
class Storage:
    """A folder of results.

    Attributes:
        url: a local folder, or a URL for fsspec
    """

    url: str

    def place(self, name: str) -> str:
        """The path or URL of a file in the folder."""
        return f"{self.url.rstrip('/')}/{name}"

    def sizes(self) -> dict[str, int]:
        """The size of each file in the folder; empty if there is no folder.

        Raises:
            InputError: the folder cannot be read
        """
        with reaching(self.url) as (files, path):
            if not files.isdir(path):
                return {}
            files.invalidate_cache(path)
            return {each["name"].rsplit("/", 1)[-1]: each["size"] or 0 for each in files.ls(path, detail=True)}

    def remove_leftovers(self) -> None:
        """Remove unfinished files of killed processes; files that other processes are writing are kept."""
        if not is_url(self.url):
            remove_scratch(Path(self.url))

    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        """Yield an open file of the folder.

        Raises:
            InputError: the file cannot be read
        """
        with reaching(self.place(name)) as (files, path), files.open(path, "rb") as file:
            yield file

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a local path to write; when the block succeeds, the complete file appears in the folder.

        Raises:
            InputError: the file cannot be written
        """
        place = self.place(name)
        if not is_url(self.url):
            with write_whole(Path(place)) as scratch:
                yield scratch
            return
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / name
            with reaching(place) as (files, path):
                files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
                # Object stores show only complete uploads; elsewhere, a partial file fails validation.
                files.put_file(str(Path(folder) / name), path)

    def remove(self, name: str) -> None:
        """Remove a file, if it exists.

        Raises:
            InputError: the file cannot be removed
        """
        with reaching(self.place(name)) as (files, path), suppress(FileNotFoundError):
            files.rm_file(path)
