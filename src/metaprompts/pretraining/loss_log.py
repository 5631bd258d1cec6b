"""Mean losses as JSON lines, truncated to the checkpoint when a run resumes."""

import json
from pathlib import Path

from metaprompts.training.logger import read_lines
from metaprompts.utils.files import write_text

_EVERY = 50


class LossLog:
    """A file of lines {"step", "lr", "over", and the mean of each part over that many steps}.

    Args:
        path: the file
        step: steps taken so far; lines of later steps, which a killed run left, are dropped
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        self._lines = [json.dumps(line) for line in read_lines(path) if line["step"] <= step]
        self._pending: list[dict[str, float]] = []

    def add(self, step: int, losses: dict[str, float], lr: float) -> None:
        """Note the losses of one step; every 50th makes a line."""
        self._pending.append(losses)
        if step % _EVERY:
            return
        means = {name: sum(entry[name] for entry in self._pending) / len(self._pending) for name in losses}
        self._lines.append(json.dumps({"step": step, "lr": lr, "over": len(self._pending), **means}))
        self._pending.clear()

    def flush(self) -> None:
        """Write the file, whole."""
        write_text(self._path, "".join(f"{line}\n" for line in self._lines))
