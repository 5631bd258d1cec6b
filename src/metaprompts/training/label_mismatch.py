"""Detect masks whose class indices differ from those of the model."""

from collections.abc import Mapping
from typing import Any

from metaprompts.data.datasets.label_histogram import LabelHistogram
from metaprompts.utils.progress import report_lines


def show_missing_classes(counted: LabelHistogram) -> None:
    """Print the classes of the masks to stderr if most of the model's classes never occur."""
    if 2 * len(counted.never) > len(counted.classes):
        report_lines(counted.lines())
        report_lines(["do the mask values match the model's class indices? If not, map them with --data.label_map"])


def warn_below_random(counted: LabelHistogram, scores: Mapping[str, Any]) -> None:
    """Print a warning to stderr if a model scores below random guessing."""
    guess = counted.best_guess()
    if guess is None or not scores["mIoU"] < guess[1]:
        return
    name, value = guess
    numbered = ", ".join(f"{index} {name}" for index, name in enumerate(counted.classes[:3]))
    report_lines(
        [
            f"WARNING: mIoU {scores['mIoU']:.4f} is less than {value:.4f}, the score of predicting {name!r} "
            f"everywhere: do the mask values match the model's class indices ({numbered}, ...)? If not, map them with "
            "--data.label_map"
        ]
    )
