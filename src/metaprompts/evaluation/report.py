"""The scores of a split as a table."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from metaprompts.utils.wording import shown_score


def score_table(scores: Mapping[str, Any], title: str) -> Table:
    """One row per score.

    Args:
        scores: name -> score; lists are skipped
        title: title of the table
    """
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("metric", style="cyan")
    table.add_column("value", justify="right")
    for name, value in scores.items():
        if not isinstance(value, list):
            table.add_row(name, _shown(name, value))
    return table


def class_table(classes: Sequence[str], iou: Sequence[float]) -> Table:
    """One row per class with its intersection over union, or a dash if it occurs in neither labels nor predictions.

    Args:
        classes: names of the classes
        iou: one number per class, 0..1 or nan
    """
    table = Table(title="IoU by class", title_justify="left", title_style="bold")
    table.add_column("class", style="cyan")
    table.add_column("IoU", justify="right")
    for name, value in zip(classes, iou, strict=True):
        table.add_row(Text(name), _shown("IoU", value))
    return table


def _shown(name: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    return shown_score(name, value)
