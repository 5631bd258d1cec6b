"""The records of an evaluation so far, one line per sample, so that it can be resumed after an interruption.

A line has "index" (in the split), "name", "files" (a stamp that detects changes to the sample), the sample's scores,
"state" (its contribution to the metric), and at the end "sum", a checksum of the line and of evaluation.json. While an
evaluation runs, each process appends to its own file; at the end the files are merged.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from metaprompts.errors import InputError
from metaprompts.metrics.segmentation import CONFUSION
from metaprompts.utils.files import json_line, read_json, write_json, write_text
from metaprompts.utils.wording import counted

WHOLE, WHAT = "per_image.jsonl", "evaluation.json"
SCORES, WORST = "metrics.json", "worst.jpg"
Record = dict[str, Any]

logger = logging.getLogger(__name__)

_SUM_DIGITS = 16
_SUM_START, _SUM_END = b',"sum":"', b'"}\n'
_SUM_BYTES = len(_SUM_START) + _SUM_DIGITS + len(_SUM_END)


class RecordWriter:
    """Appends records to a process's file; a record is stored as soon as `write` returns.

    A killed process loses at most the current line, which is truncated when the file is opened again.

    Args:
        folder: folder of the evaluation
        rank: rank of the process

    Raises:
        InputError: the folder cannot be written
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self._path = folder / f"per_image-part{rank}.jsonl"
        self._evaluation = _evaluation(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab", buffering=0)
            self._file.truncate(_complete_bytes(self._path))
        except OSError as error:
            raise InputError(f"cannot write {self._path}: {error.strerror}") from error

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record.

        Raises:
            InputError: the record cannot be written completely; earlier records are kept
        """
        line = _with_sum(record, self._evaluation)
        try:
            # One unbuffered call, so that the operating system has the line before the next sample begins.
            written = self._file.write(line)
        except OSError as error:
            raise self._cut_short(error.strerror or "a system error") from error
        if written != len(line):
            raise self._cut_short("no space left")

    def _cut_short(self, reason: str) -> InputError:
        return InputError(
            f"cannot write {self._path}: {reason}; free up space and run the same command again to continue"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def read_records(folder: Path) -> dict[int, Record]:
    """The records of finished samples by index; skips lines with a wrong checksum.

    Raises:
        InputError: a file cannot be read
    """
    return _read(folder)[0]


def drop_damaged(folder: Path) -> None:
    """Remove lines with a wrong checksum, with a warning that counts them; their samples are evaluated again.

    Raises:
        InputError: a file cannot be read or written
    """
    records, damaged = _read(folder)
    if damaged:
        logger.warning(
            "%s in %s damaged or changed (checksum mismatch): evaluated again", counted(damaged, "record"), folder
        )
        write_records(folder, records)


def _read(folder: Path) -> tuple[dict[int, Record], int]:
    """The records by index, and the number of damaged lines."""
    records: dict[int, Record] = {}
    damaged = 0
    evaluation = _evaluation(folder)
    for path in [folder / WHOLE, *_parts(folder)]:
        if path.is_file():
            for line in _complete_lines(path):
                record = _checked(line, evaluation)
                if record is None:
                    damaged += 1
                else:
                    records[record["index"]] = record
    return records, damaged


def write_records(folder: Path, records: Mapping[int, Record]) -> None:
    """Merge all records into one file, in the order of the split, and remove the processes' own files."""
    evaluation = _evaluation(folder)
    write_text(folder / WHOLE, "".join(_with_sum(records[index], evaluation).decode() for index in sorted(records)))
    for path in _parts(folder):
        path.unlink()


def belongs_to(folder: Path, what: Mapping[str, Any], *, restart: bool) -> bool:
    """Whether a folder's records belong to this evaluation, so that it can be resumed.

    Args:
        folder: folder of the evaluation
        what: plain values that identify this evaluation: weights, data, protocol
        restart: always return False

    Returns:
        False if there are no records, or if they belong to a different, finished evaluation

    Raises:
        InputError: the records belong to a different, unfinished evaluation
    """
    if restart or not (folder / WHAT).is_file():
        return False
    found = read_json(folder / WHAT)
    # Converted by way of JSON, like the stored description, so that tuples become lists.
    expected = json.loads(json.dumps(dict(what)))
    if found == expected:
        return True
    if any(map(_complete_bytes, _parts(folder))):
        differing = [key for key in expected if not isinstance(found, dict) or found.get(key) != expected[key]]
        raise InputError(
            f"{folder} holds an unfinished evaluation that differs in {', '.join(differing) or 'version'}: "
            "choose another --out, or pass --resume never to discard it"
        )
    return False


def begin(folder: Path, what: Mapping[str, Any]) -> None:
    """Discard a folder's records and write the description of this evaluation."""
    for path in [*(folder / name for name in (WHAT, WHOLE, SCORES, WORST, *CONFUSION)), *_parts(folder)]:
        path.unlink(missing_ok=True)
    write_json(folder / WHAT, dict(what))


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("per_image-part*.jsonl"))


def _complete_lines(path: Path) -> list[bytes]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    return content[: content.rfind(b"\n") + 1].splitlines(keepends=True)


def _complete_bytes(path: Path) -> int:
    """The length of a file's complete lines."""
    return sum(map(len, _complete_lines(path)))


def _evaluation(folder: Path) -> bytes:
    """The evaluation's description as bytes; each checksum covers it, so records of other evaluations do not match."""
    path = folder / WHAT
    return path.read_bytes() if path.is_file() else b""


def _with_sum(record: Mapping[str, Any], evaluation: bytes) -> bytes:
    content = json_line(dict(record)).encode()[: -len("}\n")]
    return content + _SUM_START + _sum(content, evaluation) + _SUM_END


def _sum(content: bytes, evaluation: bytes) -> bytes:
    return hashlib.sha256(evaluation + content).hexdigest()[:_SUM_DIGITS].encode()


def _checked(line: bytes, evaluation: bytes) -> Record | None:
    """The record of a line; None if its checksum is wrong."""
    content, ending = line[:-_SUM_BYTES], line[-_SUM_BYTES:]
    if ending != _SUM_START + _sum(content, evaluation) + _SUM_END:
        return None
    record: Record = json.loads(content + b"}")
    return record
