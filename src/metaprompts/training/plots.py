"""Plot a run's log: loss, learning rate and the main validation metric."""

from collections.abc import Mapping, Sequence
from typing import Any

from metaprompts.utils.wording import with_unit
from metaprompts.visualize.curves import Curve, draw_curves
from metaprompts.visualize.text import ImageArray

_SMOOTH_SHARE = 0.02


def training_curves(lines: Sequence[Mapping[str, Any]], metric: str) -> ImageArray:
    """Draw a log.

    Args:
        lines: lines of log.jsonl
        metric: the validation metric to draw

    Returns:
        (height, width, 3)
    """
    steps = [line for line in lines if "total" in line]
    numbers = [line["step"] for line in steps]
    losses = [_number(line["total"]) for line in steps]
    curves = [
        Curve(
            title="training loss",
            unit="loss",
            steps=numbers,
            values=losses,
            smooth=max(1, round(_SMOOTH_SHARE * len(steps))),
            cut_outliers=True,
            limits=(0.0 if all(not loss < 0 for loss in losses) else None, None),
        ),
        Curve(title="learning rate", unit="learning rate", steps=numbers, values=[line["lr"] for line in steps]),
        _scores([line for line in lines if "validation" in line], metric),
    ]
    return draw_curves(curves, max((line["step"] for line in lines), default=1))


def _scores(validations: Sequence[Mapping[str, Any]], metric: str) -> Curve:
    """Axes of errors in meters start at 0, others span 0 to 1: axes fitted to the values would exaggerate noise."""
    values = [_number(line["validation"].get(metric)) for line in validations]
    if with_unit(metric) != metric:
        finite = [value for value in values if value < float("inf")]
        title, limits = "lower is better; axis from 0", (0.0, 1.05 * max(finite, default=0.0) or 1.0)
    else:
        # COCO's -1 means that there was nothing to score.
        values = [value if value >= 0 else float("nan") for value in values]
        title, limits = "higher is better; axis always from 0 to 1", (0.0, 1.02)
    return Curve(
        title=f"validation {metric}, {title}",
        unit=with_unit(metric),
        steps=[line["step"] for line in validations],
        values=values,
        limits=limits,
    )


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
