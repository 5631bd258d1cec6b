"""What training tells while it runs: loss, learning rate, pictures a second, time left."""

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from torch import nn

from metaprompts.wording import counted, shown_score

_WINDOW = 50
_LOG_EVERY = 50
_LOG_SECONDS = 30.0


class Progress:
    """Who is told of a training's steps; whoever wants to do something about it overrides."""

    def note(self, lines: Sequence[str]) -> None:
        """Something about the data, before training begins."""

    def start(self, steps: int, model: nn.Module, about: str = "") -> None:
        """Training begins; ``about`` says more of how it is done."""

    def step(
        self,
        step: int,
        losses: dict[str, float],
        *,
        lr: float,
        pictures: int,
        seconds: float,
        waited: float | None = None,
    ) -> None:
        """A step is done; ``waited`` of its seconds were spent waiting for pictures."""

    def validating(self, batches: Iterable[Any]) -> Iterable[Any]:
        """Pass on the batches of a validation."""
        return batches

    def validated(self, step: int, scores: dict[str, Any]) -> None:
        """A validation is done."""

    def finish(self) -> None:
        """Training is over."""


class Silence(Progress):
    """Tells nothing."""


class ProgressLine(Progress):
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
        self._told = time.monotonic()
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
        pictures: int,
        seconds: float,
        waited: float | None = None,
    ) -> None:
        """Move the bar, or print a line now and then."""
        self._recent.append((pictures, seconds, losses["total"]))
        self._waited.append(waited or 0.0)
        loss = sum(entry[2] for entry in self._recent) / len(self._recent)
        rate = sum(entry[0] for entry in self._recent) / sum(entry[1] for entry in self._recent)
        facts = f"loss {loss:.4f}  lr {lr:.2e}  {rate:.1f} images/s"
        if waited is not None:
            facts += f"  {sum(self._waited) / sum(entry[1] for entry in self._recent):.0%} waiting"
        self._bar.update(self._task, completed=step, facts=facts)
        is_due = time.monotonic() - self._told >= _LOG_SECONDS or step % _LOG_EVERY == 0 or step == self._steps
        if self._bar.disable and is_due:
            self._told = time.monotonic()
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
