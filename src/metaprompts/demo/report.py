"""A self-contained HTML file."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from metaprompts.demo.live_training import ENOUGH_STEPS, Point
from metaprompts.utils.files import write_text
from metaprompts.utils.wording import counted, enumerated, with_unit
from metaprompts.visualize.curves import running_mean
from metaprompts.visualize.text import ImageArray

_SMOOTH = 9


@dataclass(frozen=True, kw_only=True)
class Score:
    """One row of the results table.

    Attributes:
        task: the task
        metric: name of the metric
        meaning: what the metric measures, in a sentence
        better: "higher" or "lower"
        model: the embedded model's score
        baseline: the score of `best_constant`
        baseline_name: description of the baseline
    """

    task: str
    metric: str
    meaning: str
    better: str
    model: float
    baseline: float
    baseline_name: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """A score before and after the live training.

    Attributes:
        metric: name of the metric
        better: "higher" or "lower"
        before: the score before
        after: the score after
    """

    metric: str
    better: str
    before: float
    after: float

    @property
    def is_better(self) -> bool:
        """Whether the training improved the score."""
        return self.after > self.before if self.better == "higher" else self.after < self.before


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """A grid of images.

    Attributes:
        title: heading
        text: a sentence or two below the heading
        columns: a heading for each column
        rows: images (H,W,3)
        names: names of the rows
        legend: an image below the grid
    """

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[ImageArray]]
    names: Sequence[str]
    legend: ImageArray | None = None


@dataclass(frozen=True, kw_only=True)
class Report:
    """The content of the report.

    Attributes:
        scenes: number of scenes that were scored
        overview: the image at the top
        scores: rows of the table
        galleries: images, in order
        curve: curve of the live training
        live: scores of the live training
        live_gallery: predictions after the live training
        commands: (purpose, command) of commands to try next
    """

    scenes: int
    overview: ImageArray
    scores: Sequence[Score]
    galleries: Sequence[Gallery]
    curve: Sequence[Point]
    live: Sequence[Change]
    live_gallery: Gallery
    commands: Sequence[tuple[str, str]] = field(default=())


def write_report(report: Report, path: Path) -> None:
    """Write the report atomically.

    Raises:
        InputError: the file cannot be written
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.keep_trailing_newline = True
    environment.filters["image"] = image_url
    environment.filters["with_unit"] = with_unit
    template = environment.from_string((resources.files(__package__) / "report.html").read_text(encoding="utf-8"))
    values = {"duration": duration(report.curve), "verdict": verdict(len(report.curve), report.live)}
    write_text(path, template.render(report=report, curve=curve_svg(report.curve), **values))


def duration(points: Sequence[Point]) -> str:
    """A summary of the training, such as "58 steps in 61 seconds"."""
    return f"{counted(len(points), 'step')} in {counted(round(points[-1].seconds), 'second')}"


def verdict(steps: int, changes: Sequence[Change]) -> str:
    """A sentence that compares the scores before and after the live training.

    Args:
        steps: number of training steps
        changes: the scores
    """
    if steps < ENOUGH_STEPS:
        return (
            f"Fewer than {ENOUGH_STEPS} steps are too few to learn anything: neither the scores nor the predictions "
            "below mean anything. Run the demo on an idle machine, or with a larger --live-seconds."
        )
    better = [change.metric for change in changes if change.is_better]
    if len(better) == len(changes):
        return "All scores improved."
    return f"Of the scores, only {enumerated(better)} improved." if better else "No score improved."


def image_url(image: ImageArray) -> str:
    """An image (H,W,3) as a data URL."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def curve_svg(points: Sequence[Point], width: int = 720, height: int = 220) -> dict[str, Any]:
    """The coordinates for drawing a loss curve: the loss of each step, and the running mean.

    Returns:
        "width", "height", "steps" and "mean" (points of polylines), "top" and "bottom" (losses at the edges) and
        "seconds" (at the right edge)
    """
    losses = np.array([point.loss for point in points])
    seconds = np.array([point.seconds for point in points])
    # The first steps of an untrained head may be far above all others.
    top, bottom = float(np.percentile(losses, 98)), float(losses.min())
    mean = running_mean(losses, _SMOOTH)
    x = seconds / max(seconds[-1], 1e-9) * width

    def polyline(values: NDArray[np.float64]) -> str:
        y = (1 - np.clip((values - bottom) / max(top - bottom, 1e-9), 0, 1)) * height
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))

    return {
        "width": width,
        "height": height,
        "steps": polyline(losses),
        "mean": polyline(mean),
        "top": top,
        "bottom": bottom,
        "seconds": float(seconds[-1]),
    }
