"""Depth as color: near is bright, far is dark, black is no measurement."""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from metaprompts.errors import InputError
from metaprompts.row_bands import row_bands
from metaprompts.visualize.text import Picture, blank, stack_down, text_size, write_texts

# Inferno's darkest part would look like the black of pixels without depth.
_DARKEST = 0.12
_ENOUGH = 2**25


def depth_range(depth_m: NDArray[np.floating], valid: NDArray[np.bool_] | None = None) -> tuple[float, float]:
    """The range that colors should span: from the 1st to the 99th percentile, so that few outliers cost no contrast.

    Args:
        depth_m: (H,W) metres
        valid: (H,W), False where depth means nothing; NaN, infinite and non-positive depth never counts

    Returns:
        near and far end, metres; (0, 1) if no pixel is valid
    """
    # Of very many pixels some tell the range as well, without gigabytes of copies.
    every = 1 + depth_m.size // _ENOUGH
    depth_m, valid = depth_m[::every], None if valid is None else valid[::every]
    measured = depth_m[_measured(depth_m, valid)]
    if not measured.size:
        return 0.0, 1.0
    near, far = np.percentile(measured, (1, 99))
    return float(near), float(far)


def color_depth(
    depth_m: NDArray[np.floating],
    minimum: float | None = None,
    maximum: float | None = None,
    valid: NDArray[np.bool_] | None = None,
) -> Picture:
    """Color a depth map with inferno, reversed: brightness falls evenly with distance, also in gray print.

    Args:
        depth_m: (H,W) metres
        minimum: depth of the brightest color, metres; None: from ``depth_range``
        maximum: depth of the darkest color, metres; None: from ``depth_range``
        valid: (H,W), False pixels are black; so are NaN, infinite and non-positive ones

    Returns:
        (H,W,3)

    Raises:
        InputError: the map has no two dimensions
    """
    if depth_m.ndim != 2:
        raise InputError(f"depth to color is {depth_m.shape}; expected (height, width) in metres")
    colors = np.empty((*depth_m.shape, 3), np.uint8)
    for rows, band in colored_bands(depth_m, minimum, maximum, valid):
        colors[rows] = band
    return colors


def colored_bands(
    depth_m: NDArray[np.floating],
    minimum: float | None = None,
    maximum: float | None = None,
    valid: NDArray[np.bool_] | None = None,
) -> Iterator[tuple[slice, Picture]]:
    """Color a depth map as `color_depth` does, in bands of rows (h,W,3), from top to bottom."""
    near, far = depth_range(depth_m, valid) if minimum is None or maximum is None else (minimum, maximum)
    near, far = near if minimum is None else minimum, far if maximum is None else maximum
    for rows in row_bands(*depth_m.shape):
        band = depth_m[rows]
        measured = _measured(band, None if valid is None else valid[rows])
        distance = (np.where(measured, band, near) - near) / max(far - near, 1e-9)
        colors = _colored(1 - np.clip(distance, 0, 1))
        colors[~measured] = 0
        yield rows, colors


def add_depth_legend(colored: Picture, minimum: float, maximum: float) -> Picture:
    """Put a bar with metres under a colored depth map.

    Args:
        colored: (H,W,3) from ``color_depth``
        minimum: depth of the brightest color, metres
        maximum: depth of the darkest color, metres

    Returns:
        (H + bar, max(W, 160), 3)
    """
    width = max(colored.shape[1], 160)
    size_px = int(np.clip(width / 32, 11, 28))
    margin, bar_height, text_height = size_px // 2, size_px, text_size("0", size_px)[1]
    strip = blank(bar_height + text_height + 2 * margin, width)
    shades = np.linspace(1, 0, width - 2 * margin)[None].repeat(bar_height, axis=0)
    strip[margin : margin + bar_height, margin : width - margin] = _colored(shades)
    return stack_down(
        colored, write_texts(strip, _ticks(minimum, maximum, width, margin, bar_height, size_px), size_px=size_px)
    )


def _ticks(
    minimum: float, maximum: float, width: int, margin: int, bar_height: int, size_px: int
) -> list[tuple[int, int, str]]:
    count = int(np.clip(width // (7 * size_px), 2, 9))
    ticks = []
    for share in np.linspace(0, 1, count):
        text = f"{minimum + share * (maximum - minimum):.{1 if maximum - minimum >= 2 else 2}f} m"
        left = margin + share * (width - 2 * margin - text_size(text, size_px)[0])
        ticks.append((int(left), margin + bar_height, text))
    return ticks


def _measured(depth_m: NDArray[np.floating], valid: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    measured: NDArray[np.bool_] = np.isfinite(depth_m) & (depth_m > 0)
    return measured if valid is None else measured & valid


def _colored(nearness: NDArray[np.floating]) -> Picture:
    levels = np.rint(255 * (_DARKEST + (1 - _DARKEST) * nearness)).astype(np.uint8)
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_INFERNO)[:, 0, ::-1]
    colors: Picture = np.ascontiguousarray(table)[levels]
    return colors
