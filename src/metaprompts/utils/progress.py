"""Progress of long runs: a bar in a terminal, a line now and then in a log file."""

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn, track
from rich.progress import Progress as Bar
from torch import nn

from metaprompts.utils.wording import counted, shown_score

_WINDOW = 50
_LOG_EVERY = 50
_LOG_SECONDS = 30.0
T = TypeVar("T")


class ProgressReporter:
    """Callback interface for the progress of a run; the methods do nothing, subclasses override them."""

    def note(self, lines: Sequence[str]) -> None:
        """Report lines about the data, before the first step."""

    def start(self, steps: int, model: nn.Module, about: str = "") -> None:
        """Report the start; ``about`` describes the batch."""

    def step(
        self,
        step: int,
        losses: dict[str, float],
        *,
        lr: float,
        images: int,
        seconds: float,
        waited: float | None = None,
    ) -> None:
        """Report a step; ``waited`` of its seconds were spent waiting for images."""

    def validating(self, batches: Iterable[Any]) -> Iterable[Any]:
        """Pass on the batches of a validation."""
        return batches

    def validated(self, step: int, scores: dict[str, Any]) -> None:
        """Report the scores of a validation."""

    def finish(self) -> None:
        """Report the end."""


class ConsoleProgress(ProgressReporter):
    """A bar in a terminal; a line every 50 steps, or every half minute, in a log file."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, soft_wrap=True)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            disable=not sys.stderr.isatty(),
        )
        self._recent: deque[tuple[int, float, float]] = deque(maxlen=_WINDOW)
        self._waited: deque[float] = deque(maxlen=_WINDOW)

    def note(self, lines: Sequence[str]) -> None:
        """Print the lines."""
        for line in lines:
            self._console.print(line, markup=False, highlight=False)

    def start(self, steps: int, model: nn.Module, about: str = "") -> None:
        """Show the size of the model and an empty bar."""
        total = sum(parameter.numel() for parameter in model.parameters())
        trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        self._console.print(
            f"{total / 1e6:.1f} M parameters, {trainable / 1e6:.1f} M trained, {counted(steps, 'step')}"
        )
        if about:
            self._console.print(about, highlight=False)
        self._steps = steps
        self._reported = time.monotonic()
        self._recent.clear()
        self._waited.clear()
        self._bar.start()
        self._task = self._bar.add_task("training", total=steps, facts="")

    def step(
        self,
        step: int,
        losses: dict[str, float],
        *,
        lr: float,
        images: int,
        seconds: float,
        waited: float | None = None,
    ) -> None:
        """Move the bar, or print a line now and then."""
        self._recent.append((images, seconds, losses["total"]))
        self._waited.append(waited or 0.0)
        loss = sum(entry[2] for entry in self._recent) / len(self._recent)
        rate = sum(entry[0] for entry in self._recent) / sum(entry[1] for entry in self._recent)
        facts = f"loss {loss:.4f}  lr {lr:.2e}  {rate:.1f} images/s"
        if waited is not None:
            facts += f"  {sum(self._waited) / sum(entry[1] for entry in self._recent):.0%} waiting"
        self._bar.update(self._task, completed=step, facts=facts)
        is_due = time.monotonic() - self._reported >= _LOG_SECONDS or step % _LOG_EVERY == 0 or step == self._steps
        if self._bar.disable and is_due:
            self._reported = time.monotonic()
            seconds_left = (self._steps - step) * sum(entry[1] for entry in self._recent) / len(self._recent)
            left = f"{int(seconds_left) // 60}:{int(seconds_left) % 60:02d} left"
            self._console.print(f"step {step}/{self._steps}  {facts}  {left}", highlight=False)

    def validating(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Show a second bar while validating."""
        total = len(batches) if isinstance(batches, Sized) else None
        task = self._bar.add_task("validating", total=total, facts="")
        for batch in batches:
            yield batch
            self._bar.advance(task)
        self._bar.remove_task(task)

    def validated(self, step: int, scores: dict[str, Any]) -> None:
        """Print the scores."""
        numbers = {name: value for name, value in scores.items() if isinstance(value, int | float)}
        shown = "  ".join(f"{name} {shown_score(name, value)}" for name, value in numbers.items() if name != "step")
        self._console.print(f"validation at step {step}: {shown}", highlight=False)

    def finish(self) -> None:
        """Close the bar."""
        self._bar.stop()


class SampleBar:
    """A bar in a terminal; a line every half minute in a log file.

    Args:
        title: what is done
        samples: how many there are
        quiet: report nothing, as on non-zero ranks
    """

    def __init__(self, title: str, samples: int, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, soft_wrap=True, quiet=quiet)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=self._console,
            disable=quiet or not sys.stderr.isatty(),
        )
        self._title, self._samples, self._done = title, samples, 0
        self._reported = time.monotonic()
        self._task = self._bar.add_task(title, total=samples)

    def advance(self, samples: int) -> None:
        """So many more are done."""
        self._done += samples
        self._bar.advance(self._task, samples)
        if self._bar.disable and time.monotonic() - self._reported >= _LOG_SECONDS:
            self._reported = time.monotonic()
            self._console.print(f"{self._title}: {self._done}/{self._samples}", highlight=False)

    def resumed(self, samples: int) -> None:
        """Report how many were done by an earlier run."""
        if samples:
            self._console.print(
                f"{self._title}: {samples} of {self._samples} done before; --resume never discards them"
            )
            self.advance(samples)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()


def tracked(items: Iterable[T], total: int, *, what: str) -> Iterator[T]:
    """Yield items and report how many are done.

    Args:
        items: yielded as they come
        total: how many
        what: is being done, such as "drawing scenes"
    """
    console = Console(stderr=True, soft_wrap=True)
    if sys.stderr.isatty():
        yield from track(items, total=total, description=what, console=console)
        return
    started = reported = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - reported >= _LOG_SECONDS or done == total:
            reported, left = now, (now - started) / done * (total - done)
            console.print(f"{what}: {done}/{total}  {int(left) // 60}:{int(left) % 60:02d} left", highlight=False)
