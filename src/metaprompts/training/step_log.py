"""Everything a training measures, as JSON lines, while it runs."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metaprompts.errors import InputError
from metaprompts.files import json_line, write_text
from metaprompts.wording import counted

logger = logging.getLogger(__name__)


class StepLog:
    """A file that gets a line for each step and each validation as soon as it is over.

    Lines hold "step"; a step's also "lr", "total", the parts of the loss, "seconds", and "waited", those of them that
    were spent waiting for pictures; a validation's hold the scores under "validation".

    Args:
        path: the file
        step: steps taken so far; what a killed training wrote of later ones is dropped
        owes_validation: whether what it wrote of the validation after this one is dropped, too

    Raises:
        InputError: the file cannot be read or written
    """

    def __init__(self, path: Path, step: int, *, owes_validation: bool = False) -> None:
        self._path = path
        validated = step - 1 if owes_validation else step
        lines = [line for line in read_lines(path) if line["step"] <= (validated if "validation" in line else step)]
        write_text(path, "".join(map(json_line, lines)))
        with self._naming():
            self._file = path.open("a", encoding="utf-8", buffering=1)

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Append a line.

        Raises:
            InputError: it cannot be written
        """
        with self._naming():
            self._file.write(json_line({"step": step, **values}))

    def close(self) -> None:
        """Close the file.

        Raises:
            InputError: what is left in memory cannot be written
        """
        with self._naming():
            self._file.close()

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"cannot write {self._path}: {error.strerror}; make room, and --resume auto") from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; a last one that was cut off is left out, and damaged ones are, too, with a warning.

    Raises:
        InputError: the file cannot be read
    """
    try:
        content = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    whole = content[: content.rfind(b"\n") + 1].splitlines()
    lines = [values for line in whole if (values := _values(line)) is not None]
    if len(lines) < len(whole):
        logger.warning("%s has %s: left out", path, counted(len(whole) - len(lines), "damaged line"))
    return lines


def _values(line: bytes) -> dict[str, Any] | None:
    """What a line says; None where it is damaged."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or type(values.get("step")) is not int:
        return None
    scores = values.get("validation", {})
    numbers = [value for key, value in values.items() if key != "validation"]
    is_whole = isinstance(scores, dict) and all(isinstance(value, int | float | None) for value in numbers)
    return values if is_whole else None
