"""Progress of long runs: a bar in a terminal, periodic lines in a log file."""

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import TYPE_CHECKING, Any, Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from metaprompts.utils.callbacks import Callback
from metaprompts.utils.wording import counted, shown_score, shown_scores

if TYPE_CHECKING:
    from torch import nn

_WINDOW = 50
_LOG_EVERY = 50
_LOG_SECONDS = 30.0
# If steps take longer than this, the time left is not estimated.
_SLOWEST_SECONDS = 3600.0
_CONSOLE = Console(stderr=True, soft_wrap=True)
T = TypeVar("T")


class ProgressBar:
    """A bar in a terminal; a line every half minute in a log file.

    Args:
        title: description of the work
        total: amount of work
        quiet: report nothing, as on non-zero ranks
        below: a running bar, below which the new bar is shown
    """

    def __init__(
        self, title: str, total: float | None, *, quiet: bool = False, below: "ProgressBar | None" = None
    ) -> None:
        self._title, self._total, self._done, self._quiet, self._below = title, total, 0.0, quiet, below
        self._progress: Progress = below._progress if below else _new_progress(disable=quiet or not sys.stderr.isatty())
        self._reported = time.monotonic()
        self._task = self._progress.add_task(title, total=total, facts="")

    def advance(self, count: int = 1) -> None:
        """Advance by a number of items."""
        self.update(self._done + count)

    def update(self, done: float, facts: str = "", *, is_due: bool = False) -> None:
        """Set the amount done; with ``is_due``, a log line is due now."""
        self._done = done
        self._progress.update(self._task, completed=done, facts=facts)
        is_due = is_due or time.monotonic() - self._reported >= _LOG_SECONDS
        if is_due and self._progress.disable and not self._quiet:
            self._reported = time.monotonic()
            seconds = self._progress.tasks[-1].time_remaining
            left = "" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d} left"
            count = f"{self._title} {int(done)}/{'?' if self._total is None else int(self._total)}"
            report_lines(["  ".join(filter(None, (count, facts, left)))])

    def resumed(self, count: int) -> None:
        """Report the number of items done by an earlier run."""
        if count and not self._quiet:
            report_lines([f"{self._title}: {count} of {self._total} already done; pass --resume never to discard them"])
        self.advance(count)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._below:
            self._progress.remove_task(self._task)
        else:
            self._progress.stop()


def tracked(
    items: Iterable[T], total: int | None = None, *, what: str, below: ProgressBar | None = None
) -> Iterator[T]:
    """Yield items and report progress.

    Args:
        items: the items to yield
        total: number of items; None for ``len``
        what: description of the work, for example "rendering scenes"
        below: a running bar, below which the new bar is shown
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with ProgressBar(what, total, below=below) as bar:
        for item in items:
            yield item
            bar.advance()


def report_lines(lines: Iterable[str]) -> None:
    """Print lines to the standard error, above a running bar."""
    for line in lines:
        _CONSOLE.print(line, markup=False, highlight=False)


def _new_progress(*, disable: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=_CONSOLE,
        disable=disable,
        speed_estimate_period=_SLOWEST_SECONDS,
    )


class ConsoleProgress(Callback):
    """A bar in a terminal; a line every 50 steps, or every half minute, in a log file.

    Loss and speed are those of the last 50 steps; log.jsonl has every step.
    """

    def on_message(self, lines: Sequence[str]) -> None:
        """Print the lines."""
        report_lines(lines)

    def on_train_begin(self, model: "nn.Module", steps: int, about: str = "") -> None:
        """Show the size of the model and an empty bar."""
        total = sum(parameter.numel() for parameter in model.parameters())
        trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        sizes = f"{total / 1e6:.1f} M parameters, {trainable / 1e6:.1f} M trained, {counted(steps, 'step')}"
        report_lines([sizes, about] if about else [sizes])
        self._steps = steps
        self._recent: deque[tuple[int, float, float, float]] = deque(maxlen=_WINDOW)
        self._bar = ProgressBar("step", steps).__enter__()

    def on_step_end(self, model: "nn.Module", step: int, losses: dict[str, float], **facts: Any) -> None:
        """Move the bar, or print periodic lines."""
        waited = facts.get("waited")
        self._recent.append((facts["images"], facts["seconds"], losses["total"], waited or 0.0))
        images, seconds, loss, all_waited = map(sum, zip(*self._recent, strict=True))
        mean = f"loss {loss / len(self._recent):.4f} (mean of {counted(len(self._recent), 'step')})"
        shown = f"{mean}  lr {facts['lr']:.2e}  {images / seconds:.1f} images/s"
        if waited is not None:
            shown += f"  {all_waited / seconds:.0%} waiting"
        self._bar.update(step, shown, is_due=step % _LOG_EVERY == 0 or step == self._steps)

    def on_validation_begin(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Show a second bar while validating."""
        return tracked(batches, what="validating", below=self._bar)

    def on_validation_end(self, model: "nn.Module", step: int, metrics: dict[str, Any]) -> None:
        """Print the scores."""
        numbers = {name: value for name, value in shown_scores(metrics).items() if isinstance(value, int | float)}
        shown = "  ".join(f"{name} {shown_score(name, value)}" for name, value in numbers.items() if name != "step")
        report_lines([f"validation at step {step}: {shown}"])

    def on_train_end(self) -> None:
        """Close the bar."""
        self._bar.__exit__()
