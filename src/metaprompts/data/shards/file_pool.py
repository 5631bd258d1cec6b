"""Files that stay open between reads, separately in every process."""

import os
from pathlib import Path
from typing import Any, BinaryIO

_OPEN_AT_MOST = 64


class OpenFiles:
    """Reads pieces of files; pickled or forked copies open the files themselves."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._files: dict[Path, BinaryIO] = {}

    def read(self, path: Path, offset: int, size: int) -> bytes:
        """Read a piece of a file.

        Returns:
            ``size`` bytes from ``offset`` on, fewer if the file ends earlier

        Raises:
            OSError: the file cannot be read
        """
        file = self._opened(path)
        file.seek(offset)
        # A read allocates the requested size first.
        return file.read(max(min(size, os.fstat(file.fileno()).st_size - offset), 0))

    def _opened(self, path: Path) -> BinaryIO:
        if self._process != os.getpid():
            # A forked process shares file positions with its parent, so each would move the other's.
            self._process, self._files = os.getpid(), {}
        if path not in self._files:
            if len(self._files) == _OPEN_AT_MOST:
                self._files.pop(next(iter(self._files))).close()
            self._files[path] = path.open("rb")
        return self._files[path]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    def __del__(self) -> None:
        for file in self._files.values():
            file.close()
