"""Numbers over steps as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from metaprompts.visualize.text import INK, Color, Picture, blank, stack_down, write_texts

_WIDTH, _HEIGHT = 760, 180
_LEFT, _TOP, _MARGIN = 64, 26, 22
_SIZE_PX = 12
_FAINT: Color = (205, 210, 220)
_STRONG: Color = (181, 71, 47)
# Bits of a pixel's fraction that OpenCV draws lines with.
_SHIFT = 4
# Sums and differences of such values are still finite.
_LARGEST = 1e300


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One panel.

    Attributes:
        title: what is shown
        steps: (N,), ascending
        values: (N,); what is not finite is left out
        smooth: points of a running mean, drawn over the values; 1 draws the values alone
        cut_outliers: end the panel at what few values exceed: the first losses may be far above all others
    """

    title: str
    steps: Sequence[float]
    values: Sequence[float]
    smooth: int = 1
    cut_outliers: bool = False


def draw_curves(curves: Sequence[Curve], last_step: float) -> Picture:
    """Draw panels under each other, with one axis of steps.

    Args:
        curves: the panels
        last_step: at the right edge

    Returns:
        (height, width, 3)
    """
    return stack_down(*(_panel(curve, last_step) for curve in curves))


def _panel(curve: Curve, last_step: float) -> Picture:
    sheet = blank(_TOP + _HEIGHT + _MARGIN, _LEFT + _WIDTH + _MARGIN)
    steps, values = np.asarray(curve.steps, np.float64), np.asarray(curve.values, np.float64)
    steps, values = steps[np.isfinite(values)], np.clip(values[np.isfinite(values)], -_LARGEST, _LARGEST)
    cv2.rectangle(sheet, (_LEFT, _TOP), (_LEFT + _WIDTH, _TOP + _HEIGHT), _FAINT)
    texts = [(_LEFT, 6, curve.title), (_LEFT, _TOP + _HEIGHT + 4, f"0 to {last_step:g} steps")]
    if len(values):
        low, high = _range(values, 98 if curve.cut_outliers else 100)
        texts += [(4, _TOP, f"{high:.3g}"), (4, _TOP + _HEIGHT - _SIZE_PX, f"{low:.3g}")]
        x = _LEFT + steps / max(last_step, 1) * _WIDTH
        for shown, color in (
            (values, _FAINT if curve.smooth > 1 else _STRONG),
            (running_mean(values, curve.smooth), _STRONG),
        ):
            y = _TOP + (1 - np.clip((shown - low) / (high - low), 0, 1)) * _HEIGHT
            _draw(sheet, x, y, color)
    return write_texts(sheet, texts, size_px=_SIZE_PX, color=INK)


def _draw(sheet: Picture, x: NDArray[np.float64], y: NDArray[np.float64], color: Color) -> None:
    points = np.rint(np.stack([x, y], axis=1) * 2**_SHIFT).astype(np.int32)
    cv2.polylines(sheet, [points], False, color, 2, cv2.LINE_AA, _SHIFT)
    if len(points) == 1:
        cv2.circle(sheet, (round(float(x[0])), round(float(y[0]))), 3, color, -1, cv2.LINE_AA)


def _range(values: NDArray[np.float64], percentile: float) -> tuple[float, float]:
    low, high = float(values.min()), float(np.percentile(values, percentile))
    spread = max(0.5, abs(low) / 10)
    return (low, high) if high > low else (low - spread, low + spread)


def running_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean of each value and up to ``window`` - 1 before it."""
    totals = np.concatenate([[0.0], values.cumsum()])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    means: NDArray[np.float64] = (totals[ends] - totals[starts]) / (ends - starts)
    return means
