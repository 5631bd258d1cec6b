"""A training's log as a picture: loss, learning rate, and the number that validations are compared by."""

from collections.abc import Mapping, Sequence
from typing import Any

from metaprompts.visualize.curves import Curve, draw_curves
from metaprompts.visualize.text import Picture

_SMOOTH_SHARE = 0.02


def training_curves(lines: Sequence[Mapping[str, Any]], metric: str) -> Picture:
    """Draw a log.

    Args:
        lines: of log.jsonl
        metric: the validations' number to draw

    Returns:
        (height, width, 3)
    """
    steps = [line for line in lines if "total" in line]
    validations = [line for line in lines if "validation" in line]
    numbers = [line["step"] for line in steps]
    smooth = max(1, round(_SMOOTH_SHARE * len(steps)))
    curves = [
        Curve(
            title="loss",
            steps=numbers,
            values=[_number(line["total"]) for line in steps],
            smooth=smooth,
            cut_outliers=True,
        ),
        Curve(title="learning rate", steps=numbers, values=[line["lr"] for line in steps]),
        Curve(
            title=f"validation {metric}",
            steps=[line["step"] for line in validations],
            values=[_number(line["validation"].get(metric)) for line in validations],
        ),
    ]
    return draw_curves(curves, max(numbers, default=1))


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
