"""Draw people as skeletons over the image."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from metaprompts.data.joints import read_names, side_of
from metaprompts.errors import InputError
from metaprompts.visualize.legends import legend_text_px, sentences, strip_width, swatches
from metaprompts.visualize.text import PAPER, Color, ImageArray, blank, stack_down, text_size, write_texts

LEFT: Color = (255, 138, 36)
RIGHT: Color = (38, 166, 255)
MIDDLE: Color = (124, 224, 88)
DRAWN_SCORE = 0.3
"""Default score threshold of drawn joints."""

_SHADOW: Color = (20, 20, 24)

# OpenCV draws with a precision of a sixteenth of a pixel.
_SUBPIXEL_BITS = 4
_FARTHEST = 1 << 20


def draw_skeleton(
    image: ImageArray,
    keypoints: NDArray[np.floating],
    scores: NDArray[np.floating],
    skeleton: Sequence[tuple[int, int]],
    threshold: float = DRAWN_SCORE,
    joints: Sequence[str] | None = None,
) -> ImageArray:
    """Draw people's limbs and joints: the person's left in orange, right in blue, the middle in green.

    Args:
        image: (H,W,3)
        keypoints: (P,J,2) x, y in pixels; non-finite joints are not drawn
        scores: (P,J)
        skeleton: pairs of joint indices connected by limbs
        threshold: joints with lower scores are not drawn, nor are the limbs that end in them
        joints: J names, which determine each joint's side, see `read_names`; None if sides are unknown

    Returns:
        (H,W,3)

    Raises:
        InputError: keypoints and scores do not match
    """
    if keypoints.ndim != 3 or keypoints.shape[2] != 2 or keypoints.shape[:2] != scores.shape:
        raise InputError(f"keypoints are {keypoints.shape}, scores {scores.shape}; expected (P,J,2) and (P,J)")
    sides = _side_colors(joints, keypoints.shape[1])
    canvas = np.ascontiguousarray(image).copy()
    for points, confidence in zip(keypoints, scores, strict=True):
        seen = (confidence >= threshold) & np.isfinite(points).all(1) & (np.abs(points) < _FARTHEST).all(1)
        _draw_person(canvas, points, seen, skeleton, sides)
    return canvas


def draw_boxes(
    canvas: ImageArray, boxes_xywh: Sequence[tuple[float, float, float, float]], scores: Sequence[float]
) -> None:
    """Draw thin boxes, each with its score above its upper left corner, or inside if there is no room above.

    A score of 1, that of annotated boxes, is not written.

    Args:
        canvas: (H,W,3), drawn on in place: a copy of a large image takes much memory
        boxes_xywh: left, top, width, height in pixels
        scores: the score of each box
    """
    height, width = canvas.shape[:2]
    size_px = legend_text_px(height, width)
    line = max(1, size_px // 11)
    for (x, y, box_width, box_height), score in zip(boxes_xywh, scores, strict=True):
        far = [int(np.clip(np.rint(value), -_FARTHEST, _FARTHEST)) for value in (x, y, x + box_width, y + box_height)]
        left, right = np.clip(far[::2], 0, width).tolist()
        top, bottom = np.clip(far[1::2], 0, height).tolist()
        # The dark line is visible on white, the light one on everything else.
        for outset, color in ((line, _SHADOW), (0, PAPER)):
            corner = (max(left, right - 1) + outset, max(top, bottom - 1) + outset)
            cv2.rectangle(canvas, (left - outset, top - outset), corner, color, line)
        if score == 1:
            continue
        text = f"{score:.2f}"
        text_width, text_height = text_size(text, size_px)
        label = write_texts(blank(text_height, text_width + 2), [(1, 0, text)], size_px=size_px)
        left = min(left, max(0, width - label.shape[1]))
        area = canvas[max(0, top - text_height) :, left:][: label.shape[0], : label.shape[1]]
        area[:] = label[: area.shape[0], : area.shape[1]]


def box_note(scores: Sequence[float]) -> str:
    """The legend text for the boxes of `draw_boxes`."""
    return f"box: a person{', with the score of the box' if any(score != 1 for score in scores) else ''}"


def skeleton_legend(joints: Sequence[str], lines: Sequence[str], size: tuple[int, int]) -> ImageArray:
    """A legend for the colors of `draw_skeleton`.

    Args:
        joints: names of the joints
        lines: sentences below the legend
        size: height and width of the image in pixels

    Returns:
        (strip height, max(width, 160), 3)
    """
    width, size_px = strip_width(size[1]), legend_text_px(*size)
    present = set(_side_colors(joints, len(joints)))
    named = {LEFT: "person's left", RIGHT: "person's right", MIDDLE: "middle"}
    shown = {color: name for color, name in named.items() if color in present} if present != {MIDDLE} else {}
    below = sentences(lines, width, size_px)
    if not shown:
        return below
    return stack_down(
        swatches([(name, "") for name in shown.values()], np.array([*shown], np.uint8), width, size_px), below
    )


def _draw_person(
    canvas: ImageArray,
    points: NDArray[np.floating],
    seen: NDArray[np.bool_],
    skeleton: Sequence[tuple[int, int]],
    colors: Sequence[Color],
) -> None:
    if not seen.any():
        return
    extent = float(np.ptp(points[seen], axis=0).max())
    thickness = int(np.clip(extent / 55, 1, max(1.0, min(canvas.shape[:2]) / 40)))
    limbs = [(first, second) for first, second in skeleton if seen[first] and seen[second]]
    for first, second in limbs:
        _line(canvas, points[first], points[second], _SHADOW, thickness + max(2, thickness // 2))
    for first, second in limbs:
        color = colors[first] if colors[first] == colors[second] else MIDDLE
        _line(canvas, points[first], points[second], color, thickness)
    for joint in np.flatnonzero(seen).tolist():
        _dot(canvas, points[joint], _SHADOW, 0.95 * thickness + 1)
        _dot(canvas, points[joint], colors[joint], 0.95 * thickness)


def _side_colors(joints: Sequence[str] | None, count: int) -> list[Color]:
    if joints is None:
        return [MIDDLE] * count
    colors = {"left": LEFT, "right": RIGHT, None: MIDDLE}
    return [colors[side_of(name)] for name in read_names(joints)]


def _line(
    canvas: ImageArray, start: NDArray[np.floating], end: NDArray[np.floating], color: Color, thickness: int
) -> None:
    cv2.line(canvas, _fixed(start), _fixed(end), color, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


def _dot(canvas: ImageArray, center: NDArray[np.floating], color: Color, radius: float) -> None:
    size = max(1, round(radius * (1 << _SUBPIXEL_BITS)))
    cv2.circle(canvas, _fixed(center), size, color, cv2.FILLED, cv2.LINE_AA, _SUBPIXEL_BITS)


def _fixed(point: NDArray[np.floating]) -> tuple[int, int]:
    x, y = np.rint(point * (1 << _SUBPIXEL_BITS)).astype(int).tolist()
    return x, y
