"""What an evaluation tells while it runs."""

import sys
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LOG_SECONDS = 30.0


class SampleBar:
    """A bar in a terminal; a line every half minute in a log file.

    Args:
        title: what is done
        samples: how many there are
        quiet: tell nothing, as all processes but the first
    """

    def __init__(self, title: str, samples: int, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, soft_wrap=True, quiet=quiet)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=self._console,
            disable=quiet or not sys.stderr.isatty(),
        )
        self._title, self._samples, self._done = title, samples, 0
        self._told = time.monotonic()
        self._task = self._bar.add_task(title, total=samples)

    def advance(self, samples: int) -> None:
        """So many more are done."""
        self._done += samples
        self._bar.advance(self._task, samples)
        if self._bar.disable and time.monotonic() - self._told >= _LOG_SECONDS:
            self._told = time.monotonic()
            self._console.print(f"{self._title}: {self._done}/{self._samples}", highlight=False)

    def goes_on(self, samples: int) -> None:
        """So many were done before; says so, because numbers of an earlier run may come as a surprise."""
        if samples:
            self._console.print(f"{self._title}: {samples} of {self._samples} done before; --restart discards them")
            self.advance(samples)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()
