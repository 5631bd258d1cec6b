"""Detect boxes whose positions suggest that they are not [x, y, width, height] in pixels."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from metaprompts.utils.wording import counted

# Detected boxes, and boxes of people cut off by the border, may extend slightly beyond the image.
_BEYOND = 0.02
_FEW = 0.1


def outside(boxes_xywh: NDArray[np.floating], sizes_wh: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Whether less than half of a box lies in its image.

    Args:
        boxes_xywh: (P, 4)
        sizes_wh: (P, 2) width and height of the images; nan if unknown

    Returns:
        (P,)
    """
    low, high = boxes_xywh[:, :2].clip(0), boxes_xywh[:, :2] + boxes_xywh[:, 2:]
    shared = (np.minimum(high, sizes_wh) - low).clip(0).prod(axis=1)
    return np.asarray(shared < 0.5 * boxes_xywh[:, 2:].prod(axis=1))


def odd_boxes(
    boxes_xywh: NDArray[np.floating], sizes_wh: NDArray[np.floating], name: Callable[[int], str]
) -> list[str]:
    """Report suspicious boxes.

    Args:
        boxes_xywh: (P, 4), of positive size
        sizes_wh: (P, 2) width and height of the images; nan if unknown
        name: index of a box -> its name in messages ("annotation 12")

    Returns:
        one line for each kind of oddity; empty if all boxes are fine
    """
    ends = boxes_xywh[:, :2] + boxes_xywh[:, 2:]
    known = np.isfinite(sizes_wh).all(axis=1)
    if (
        len(ends)
        and (np.abs(boxes_xywh) <= 1).all()
        and (ends <= 1).all()
        and (~known | (sizes_wh > _FEW / _BEYOND).all(axis=1)).all()
    ):
        return [f"all {len(ends)} boxes lie within one pixel, like fractions of the size; expected pixels"]
    if not known.any():
        return []
    (places,) = known.nonzero()
    boxes, sizes = boxes_xywh[known], sizes_wh[known]
    ends = ends[known]
    is_beyond = (ends > (1 + _BEYOND) * sizes + 1).any(axis=1)
    could_be_corners = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & (boxes[:, 2:] <= sizes + 1).all(axis=1)
    suspicious = is_beyond & could_be_corners
    if (could_be_corners.all() and suspicious.any()) or suspicious.mean() > _FEW:
        return [
            _line(suspicious, places, boxes, sizes, name, "end outside their images, but not if read as x1, y1, x2, y2")
        ]
    is_outside = outside(boxes, sizes)
    if is_outside.any():
        return [_line(is_outside, places, boxes, sizes, name, "lie mostly outside their images")]
    return []


def _line(
    chosen: NDArray[np.bool_],
    places: NDArray[np.intp],
    boxes: NDArray[np.floating],
    sizes: NDArray[np.floating],
    name: Callable[[int], str],
    what: str,
) -> str:
    first = int(chosen.argmax())
    box = ", ".join(f"{side:g}" for side in boxes[first])
    width, height = sizes[first]
    all_boxes = counted(len(boxes), "box", "boxes")
    return (
        f"{chosen.sum()} of {all_boxes} {what} (the first: {name(int(places[first]))}, [{box}] in an image "
        f"{width:g} wide and {height:g} high); expected x, y, width, height in pixels"
    )
