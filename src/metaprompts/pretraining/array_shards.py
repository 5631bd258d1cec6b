"""Arrays of many rows, in files of a few hundred rows that are written atomically, so that writing can be resumed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaprompts.errors import InputError
from metaprompts.utils.files import read_json, write_json, write_whole
from metaprompts.utils.wording import counted

PART_ROWS = 250


def part_ranges(count: int) -> list[range]:
    """The row indices of each part, for ``count`` rows in total."""
    return [range(start, min(start + PART_ROWS, count)) for start in range(0, count, PART_ROWS)]


def write_part(folder: Path, rows: range, values: NDArray[Any], notes: Sequence[str] | None = None) -> None:
    """Write one part.

    Args:
        folder: output folder of all parts
        rows: indices of the rows
        values: (len(rows), ...)
        notes: one line for each row, for example its caption

    Raises:
        InputError: the file cannot be written
    """
    # Notes are written first, so that they exist if the values do.
    if notes is not None:
        write_json(_path(folder, rows).with_suffix(".json"), list(notes))
    with write_whole(_path(folder, rows)) as scratch:
        np.save(scratch, values)


def missing_parts(folder: Path, count: int, shape: tuple[int, ...]) -> list[range]:
    """The row ranges of the parts that are still missing from a folder.

    Args:
        folder: output folder of all parts
        count: total number of rows
        shape: shape of a row

    Raises:
        InputError: the folder holds rows of a different shape
    """
    missing = []
    for rows in part_ranges(count):
        path = _path(folder, rows)
        if not path.is_file():
            missing.append(rows)
            continue
        found = _open(path).shape
        if found[1:] != shape:
            raise InputError(f"{path} holds rows of shape {found[1:]}; expected {shape}: choose another run folder")
        # The last part of a shorter array grows when more rows are requested.
        if found[0] < len(rows):
            missing.append(rows)
    return missing


class Rows:
    """The rows stored in a folder of parts, read from disk on demand.

    Args:
        folder: output folder of all parts
        count: total number of rows

    Raises:
        InputError: a part is missing or damaged
    """

    def __init__(self, folder: Path, count: int) -> None:
        self._count = count
        self._parts = [_open(_path(folder, rows)) for rows in part_ranges(count)]

    def __len__(self) -> int:
        """The number of rows."""
        return self._count

    def __getitem__(self, row: int) -> NDArray[Any]:
        """One row."""
        values: NDArray[Any] = self._parts[row // PART_ROWS][row % PART_ROWS]
        return values

    def gather(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[Any]:
        """Several rows, (len(rows), ...)."""
        return np.stack([self[int(row)] for row in rows])


def read_notes(folder: Path, count: int) -> list[str]:
    """The notes of ``count`` rows.

    Raises:
        InputError: a part is missing or damaged
    """
    notes = [note for rows in part_ranges(count) for note in read_json(_path(folder, rows).with_suffix(".json"))]
    if len(notes) < count:
        raise InputError(f"{folder} holds {counted(len(notes), 'caption')}, expected {count}: run stage scenes again")
    return notes[:count]


def _path(folder: Path, rows: range) -> Path:
    return folder / f"{rows.start:07d}.npy"


def _open(path: Path) -> NDArray[Any]:
    try:
        values: NDArray[Any] = np.load(path, mmap_mode="r")
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: run the stage that writes it first") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it and run its stage again") from error
    return values
