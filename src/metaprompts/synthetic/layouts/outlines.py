"""Masks as polygons, in the two conventions that data sets use."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Polygon = list[list[int]]


def painted_outlines(pieces: NDArray[Any]) -> list[tuple[int, Polygon]]:
    """Outline the pieces of an image, in painting order; corners are pixel centers, and holes are painted over.

    Args:
        pieces: (H, W) the piece number of every pixel

    Returns:
        (number, polygon) in painting order; if polygons are filled including their outlines, they reproduce ``pieces``
    """
    outlines = [(number, outline) for number in np.unique(pieces) for outline in _outlines(pieces == number)]
    # An outline inside a hole of another is smaller than the other. The sort is stable, so that the order is
    # reproducible.
    outlines.sort(key=lambda item: -cv2.contourArea(item[1]))
    return [(int(number), _closed(outline[:, 0].tolist())) for number, outline in outlines]


def _closed(points: Polygon) -> Polygon:
    """The polygon with at least three corners, which drawing programs require even for a single pixel."""
    return points + points[-1:] * (3 - len(points))


def _outlines(mask: NDArray[np.bool_]) -> Iterator[NDArray[np.int32]]:
    # Outlines of pieces that touch only at corners could cross, so pixels are connected by edges.
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    for part in range(1, count):
        left, top, width, height = stats[part, :4].tolist()
        inside = (parts[top : top + height, left : left + width] == part).astype(np.uint8)
        found, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(left, top))
        yield found[0]


def edge_polygons(mask: NDArray[np.bool_]) -> list[list[int]]:
    """Outline a mask along the edges of its pixels, in COCO's coordinates: pixel (x, y) extends from x to x + 1.

    A line traced in both directions connects each hole to its polygon; it does not change the filled area.

    Args:
        mask: (H, W)

    Returns:
        alternating x and y, one list per part; rasterized by COCO's rules, the parts reproduce the mask
    """
    # In an image of double size, the pixels at an edge show on which side the outside is.
    double = np.repeat(np.repeat(mask.astype(np.uint8), 2, axis=0), 2, axis=1)
    found, tree = cv2.findContours(double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    polygons = []
    for place, contour in enumerate(found):
        if tree[0, place, 3] < 0:
            holes = [found[inner] for inner in np.flatnonzero(tree[0, :, 3] == place).tolist()]
            loops = [_corners((loop[:, 0] + 1) // 2) for loop in (contour, *holes)]
            way_back = [loop[0] for loop in reversed(loops[:-1])]
            polygons.append([value for point in [*chain(*loops), *way_back] for value in point])
    return polygons


def _corners(points: NDArray[np.int32]) -> Polygon:
    """A closed loop without collinear points; the first point is repeated at the end."""
    points = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
    come, go = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns = points[come[:, 0] * go[:, 1] != come[:, 1] * go[:, 0]]
    return [*turns.tolist(), turns[0].tolist()]
