"""Depth as color: near is bright, far is dark, unmeasured is black."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from metaprompts.errors import InputError
from metaprompts.utils.batches import row_bands
from metaprompts.visualize.legends import sentences, strip_width
from metaprompts.visualize.text import INK, ImageArray, blank, stack_down, text_size, write_texts

# The darkest colors of inferno are too close to the black of pixels without depth.
_DARKEST = 0.12
_ENOUGH = 2**25
BRIGHTNESS_NOTE = "near is bright, far is dark"
# Depth is sparse if the fraction of measured pixels is below this.
_SPARSE = 0.5


def depth_range(depth_m: NDArray[np.floating], valid: NDArray[np.bool_] | None = None) -> tuple[float, float]:
    """The range of the colors: the 1st to the 99th percentile, so outliers do not reduce contrast.

    Args:
        depth_m: (H,W) meters
        valid: (H,W), False where depth is meaningless; NaN, infinite and non-positive depth never counts

    Returns:
        the nearest and farthest depth of the range, meters; (0, 1) if no pixel is valid
    """
    # If there are very many pixels, a subset gives the same range without copying gigabytes.
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
) -> ImageArray:
    """Color a depth map with inferno, reversed: brightness falls evenly with distance, even when printed in gray.

    Args:
        depth_m: (H,W) meters
        minimum: depth of the brightest color in meters; None to use ``depth_range``
        maximum: depth of the darkest color in meters; None to use ``depth_range``
        valid: (H,W), False where pixels are drawn black, like those with NaN, infinite or non-positive depth

    Returns:
        (H,W,3)

    Raises:
        InputError: the map is not two-dimensional
    """
    if depth_m.ndim != 2:
        raise InputError(f"depth is {depth_m.shape}; expected (height, width) in meters")
    colors = np.empty((*depth_m.shape, 3), np.uint8)
    for rows, band in colored_bands(depth_m, minimum, maximum, valid):
        colors[rows] = band
    return colors


def colored_bands(
    depth_m: NDArray[np.floating],
    minimum: float | None = None,
    maximum: float | None = None,
    valid: NDArray[np.bool_] | None = None,
) -> Iterator[tuple[slice, ImageArray]]:
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


def depth_legend(
    minimum: float, maximum: float, width: int, *, size_px: int | None = None, notes: Sequence[str] = ()
) -> ImageArray:
    """A color bar labeled in meters.

    Args:
        minimum: depth of the brightest color in meters
        maximum: depth of the darkest color in meters
        width: width of the strip in pixels; raised to at least 160
        size_px: size of the font; None to choose it for the width
        notes: sentences below the bar

    Returns:
        (strip height, max(width, 160), 3)
    """
    width = strip_width(width)
    size_px = size_px or int(np.clip(width / 32, 11, 28))
    margin, text_height = size_px // 2, text_size("0", size_px)[1]
    strip = blank(2 * margin + size_px + text_height, width)
    length = width - 2 * margin
    strip[margin : margin + size_px, margin : width - margin] = _colored(
        np.linspace(1, 0, length)[None].repeat(size_px, axis=0)
    )
    mark, texts = max(1, size_px // 8), []
    for depth_m, text in _ticks(minimum, maximum, max(4, width // (6 * size_px))):
        middle = margin + round((depth_m - minimum) / max(maximum - minimum, 1e-9) * (length - 1))
        strip[margin + size_px : margin + size_px + margin // 2, middle : middle + mark] = INK
        wide = text_size(text, size_px)[0]
        left = int(np.clip(middle - wide / 2, margin, width - margin - wide))
        texts.append((left, margin + size_px + margin // 2, text))
    strip = write_texts(strip, texts, size_px=size_px)
    return stack_down(strip, sentences(notes, width, size_px)) if notes else strip


def color_notes(depth_m: NDArray[np.floating], valid: NDArray[np.bool_] | None = None) -> list[str]:
    """Notes for reading the colors of a depth map, in sentences.

    Args:
        depth_m: (H,W) meters
        valid: (H,W), False where depth is meaningless
    """
    near, far = depth_range(depth_m, valid)
    known = nearer = farther = 0
    for rows in row_bands(*depth_m.shape):
        measured = depth_m[rows][_measured(depth_m[rows], None if valid is None else valid[rows])]
        known += measured.size
        nearer += int((measured < near).sum())
        farther += int((measured > far).sum())
    if not known:
        return ["black: no depth"]
    notes = [BRIGHTNESS_NOTE + ("; black: no depth" if known < depth_m.size else "")]
    if nearer:
        notes.append(f"depths below {near:.2g}\u00a0m share one color")
    if farther:
        notes.append(f"depths above {far:.2g}\u00a0m share one color")
    return notes


def visible_points(depth_m: NDArray[np.floating]) -> NDArray[np.float32]:
    """Enlarge sparse points to 5x5 pixels; near points cover farther ones. Dense depth is unchanged."""
    depth_m = depth_m.astype(np.float32)
    if (depth_m > 0).mean() < _SPARSE:
        nearness = np.divide(1, depth_m, out=np.zeros_like(depth_m), where=depth_m > 0)
        nearness = cv2.dilate(nearness, np.ones((5, 5), np.uint8)).astype(np.float32)
        depth_m = np.divide(1, nearness, out=np.zeros_like(nearness), where=nearness > 0)
    return depth_m


def _ticks(minimum: float, maximum: float, at_most: int) -> list[tuple[float, str]]:
    """Round numbers of meters within the range, with labels; only the smallest depth if the range is empty."""
    span = maximum - minimum
    if not span > 1e-6 * max(abs(maximum), 1e-3):
        return [(minimum, f"{minimum:.3g} m")]
    power = 10.0 ** np.floor(np.log10(span / at_most))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if span / step <= at_most)
    digits = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    places = np.arange(np.ceil(minimum / step - 1e-9), np.floor(maximum / step + 1e-9) + 1) * step
    return [(float(place), f"{place:.{digits}f} m") for place in places]


def _measured(depth_m: NDArray[np.floating], valid: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    measured: NDArray[np.bool_] = np.isfinite(depth_m) & (depth_m > 0)
    return measured if valid is None else measured & valid


def _colored(nearness: NDArray[np.floating]) -> ImageArray:
    levels = np.rint(255 * (_DARKEST + (1 - _DARKEST) * nearness)).astype(np.uint8)
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_INFERNO)[:, 0, ::-1]
    colors: ImageArray = np.ascontiguousarray(table)[levels]
    return colors
