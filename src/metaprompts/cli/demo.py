"""``metaprompts demo``."""

import sys
from collections.abc import Iterable, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import tyro

from metaprompts.cli.console import say

if TYPE_CHECKING:
    from metaprompts.demo.live_training import Point


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Show everything in a few minutes, without network, data sets or GPU.

    Draws scenes, scores the three embedded models and constant baselines on them, trains depth live from the miniature
    Stable Diffusion for a minute, and writes one HTML file with images, refinement steps and prompt
    heatmaps.
    """

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("metaprompts-demo")
    """Folder for the scenes and the report."""
    seed: int = 3_000_000
    """Of the first scene. Other seeds give other scenes."""
    scenes: int = 64
    """How many scenes are scored."""
    training_scenes: int = 256
    """How many scenes the live training sees."""
    live_seconds: float = 60.0
    """How long the live training takes."""

    def run(self) -> int:
        """Show everything."""
        import os

        import torch

        from metaprompts.demo.config import DemoConfig
        from metaprompts.demo.demo import run_demo

        settings = DemoConfig(
            out=self.out,
            seed=self.seed,
            scenes=self.scenes,
            training_scenes=self.training_scenes,
            live_seconds=self.live_seconds,
            workers=max(1, min(os.cpu_count() or 1, 8)),
        )
        torch.manual_seed(0)
        with _ConsoleReporter() as reporter:
            report = run_demo(settings, reporter)
        say(f"report: {report.resolve()}\n")
        return 0


class _ConsoleReporter:
    """Bars in a terminal; a line for each stage in a log file."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, soft_wrap=True)
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        # Always stop the bar: a running one hides the terminal's cursor.
        self._end_bar()

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def stage(self, title: str) -> None:
        """Print what begins."""
        self._end_bar()
        self._console.print(title, highlight=False)

    def scenes(self, drawn: Iterable[None], total: int) -> Iterable[None]:
        """Show a bar of the scenes."""
        return self._tracked(drawn, total, "drawing")

    def batches(self, batches: Iterable[Any]) -> Iterable[Any]:
        """Show a bar of the batches."""
        return self._tracked(batches, len(batches) if isinstance(batches, Sized) else None, "scoring")

    def live(self, point: "Point", seconds: float) -> None:
        """Move a bar with the clock."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        if self._bar is None:
            columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(compact=True))
            self._bar = Progress(*columns, console=self._console, disable=not sys.stderr.isatty())
            self._bar.start()
            self._bar.add_task("training", total=seconds)
        task = self._bar.task_ids[0]
        self._bar.update(task, completed=point.seconds, description=f"training  loss {point.loss:.3f}")

    def _tracked(self, items: Iterable[Any], total: int | None, what: str) -> Iterable[Any]:
        from rich.progress import track

        return track(
            items, description=what, total=total, console=self._console, disable=not sys.stderr.isatty(), transient=True
        )
