"""Detect boxes and joints that are probably not in pixels of their image, or not [x, y, width, height]."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from metaprompts.utils.wording import counted

# As fractions of the size. Detected boxes, and boxes of people cut off by the border, may extend slightly beyond the
# image, annotators click slightly beyond the border, and boxes are drawn more or less tightly.
_BEYOND, _BEYOND_BOX = 0.02, 0.25
_FEW = 0.1


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
        return [f"all {len(ends)} boxes lie within one pixel, as if given as fractions of the size; expected pixels"]
    if not known.any():
        return []
    (places,) = known.nonzero()
    boxes, sizes = boxes_xywh[known], sizes_wh[known]
    ends = ends[known]
    is_beyond = (ends > (1 + _BEYOND) * sizes + 1).any(axis=1)
    could_be_corners = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & (boxes[:, 2:] <= sizes + 1).all(axis=1)
    suspicious = is_beyond & could_be_corners
    if (could_be_corners.all() and suspicious.any()) or suspicious.mean() > _FEW:
        chosen, what = suspicious, "end outside their images, but not if read as x1, y1, x2, y2"
    else:
        shared = (np.minimum(ends, sizes) - boxes[:, :2].clip(0)).clip(0).prod(axis=1)
        chosen, what = shared < 0.5 * boxes[:, 2:].prod(axis=1), "lie mostly outside their images"
    if not chosen.any():
        return []
    first = int(chosen.argmax())
    box = ", ".join(f"{side:g}" for side in boxes[first])
    width, height = sizes[first]
    return [
        f"{chosen.sum()} of {counted(len(boxes), 'box', 'boxes')} {what} (the first: {name(int(places[first]))}, "
        f"[{box}] in an image {width:g} wide and {height:g} high); expected x, y, width, height in pixels"
    ]


def odd_joints(
    keypoints: NDArray[np.floating],
    sizes_wh: NDArray[np.floating],
    boxes_xywh: NDArray[np.floating],
    name: Callable[[int], str],
) -> Iterator[str]:
    """Report suspicious labeled joints.

    Args:
        keypoints: (P, J, 3): x, y, visibility; 0 is not labeled
        sizes_wh: (P, 2) width and height of the images; nan if unknown
        boxes_xywh: (P, 4)
        name: index of a person -> their name in messages ("annotation 12")

    Returns:
        one line for each kind of oddity
    """
    labeled, places = keypoints[:, :, 2] > 0, keypoints[:, :, :2]
    margin = _BEYOND * sizes_wh[:, None] + 1
    outside = labeled & ((places < -margin) | (places > sizes_wh[:, None] + margin)).any(axis=2)
    if outside.any():
        person, joint = np.argwhere(outside)[0]
        x, y = places[person, joint]
        width, height = sizes_wh[person]
        yield (
            f"{outside.sum()} of {counted(int(labeled.sum()), 'labeled joint')} lie outside their images (the first: "
            f"{name(int(person))}, [{x:g}, {y:g}] in an image {width:g} wide and {height:g} high); expected x, y in "
            "pixels"
        )
    at_corner = labeled & (places == 0).all(axis=2)
    if at_corner.any():
        yield (
            f"{at_corner.sum()} of {counted(int(labeled.sum()), 'labeled joint')} lie at exactly 0, 0 (the first: "
            f"{name(int(at_corner.any(axis=1).argmax()))}), like missing joints in some exports, and count as "
            "labeled: give them visibility 0"
        )
    low, sides = boxes_xywh[:, None, :2], boxes_xywh[:, None, 2:]
    margin = _BEYOND_BOX * sides + 1
    off_box = labeled & ((places < low - margin) | (places > low + sides + margin)).any(axis=2)
    is_off = off_box.sum(axis=1) > 0.5 * labeled.sum(axis=1)
    if is_off.any():
        yield (
            f"{is_off.sum()} of {counted(len(keypoints), 'person')} with most labeled joints outside their own box "
            f"(the first: {name(int(is_off.argmax()))}): boxes and joints may belong to different people, or joints "
            "may be relative to the box; expected both in pixels of the image"
        )
    lowest = places.min(axis=1, where=labeled[:, :, None], initial=np.inf)
    highest = places.max(axis=1, where=labeled[:, :, None], initial=-np.inf)
    at_one_point = (labeled.sum(axis=1) > 1) & (highest - lowest <= 1).all(axis=1)
    if at_one_point.any():
        yield (
            f"{at_one_point.sum()} of {counted(len(keypoints), 'person')} with all labeled joints within one pixel "
            f"(the first: {name(int(at_one_point.argmax()))}), as if given as fractions of the size; "
            "expected x, y in pixels"
        )
