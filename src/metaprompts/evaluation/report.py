"""The scores of a split as a table."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from metaprompts.utils.wording import shown_score, shown_scores


def score_table(scores: Mapping[str, Any], title: str) -> Table:
    """One row per score.

    Args:
        scores: name -> score; lists are skipped
        title: title of the table
    """
    rows = ((name, name, value) for name, value in shown_scores(scores).items() if not isinstance(value, list))
    return _table(title, ("metric", "value"), rows)


def class_table(classes: Sequence[str], iou: Sequence[float]) -> Table:
    """One row per class with its intersection over union, or a dash if it occurs in neither labels nor predictions.

    Args:
        classes: names of the classes
        iou: one number per class, 0..1 or nan
    """
    rows = ((name, "IoU", value) for name, value in zip(classes, iou, strict=True))
    return _table("IoU by class", ("class", "IoU"), rows)


def _table(title: str, columns: tuple[str, str], rows: Iterable[tuple[str, str, float]]) -> Table:
    """A table of rows (name, name of the score, score)."""
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column(columns[0], style="cyan")
    table.add_column(columns[1], justify="right")
    for name, score, value in rows:
        table.add_row(Text(name), "-" if math.isnan(value) else shown_score(score, value))
    return table
