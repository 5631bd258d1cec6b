"""Person boxes from a segmentation model: one box for each connected region of the class person."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from metaprompts.data.class_names import plain_names
from metaprompts.errors import InputError
from metaprompts.inference.detectors.base import Boxes
from metaprompts.inference.predict import predict_many
from metaprompts.tasks.predictions import SegmentationPrediction
from metaprompts.tasks.protocol import ImagePredictor
from metaprompts.utils.wording import listed
from metaprompts.visualize.text import ImageArray

PERSON = "person"

# Like the default score, chosen on 256 generated scenes of the training set, by recall and precision at IoU 0.5.
_SMALLEST_FRAGMENT, _SMALLEST_PERSON = 0.0003, 0.0016  # fractions of the image
_LARGEST_GAP, _LEAST_OVERLAP = 0.1, 0.8
_WIDE, _VALLEY, _MIDDLE = 0.5, 0.5, (0.2, 0.8)
# Arms and feet are often missing in masks.
_ENLARGED = (1.2, 1.05)

_Corners = tuple[int, int, int, int]


class SegmentationDetector:
    """Finds people by the regions of the class person; the score is the region's mean confidence.

    Args:
        model: a segmentation model with a class person

    Raises:
        InputError: the model has another task, or no class person
    """

    default_score = 0.6

    def __init__(self, model: ImagePredictor) -> None:
        classes: tuple[str, ...] | None = getattr(model.task, "classes", None)
        if classes is None:
            raise InputError(
                f"the model predicts {model.task.name}; expected a segmentation model with the class person"
            )
        names = plain_names(classes)
        if PERSON not in names:
            raise InputError(f"the model has no class person, but {listed(classes, 5)}: choose another detector")
        self._model, self._person = model, names.index(PERSON)

    def __call__(self, image: ImageArray) -> Boxes:
        """Boxes of all regions, see `person_boxes`."""
        found = next(predict_many(self._model, [image], 1))
        assert isinstance(found, SegmentationPrediction)
        assert found.confidence is not None
        return person_boxes(found.labels == self._person, found.confidence)


@dataclass
class _Region:
    """One or several connected groups of pixels that belong to one person.

    Attributes:
        labels: labels of the groups
        corners: left, top, right, bottom
        area: number of pixels
        confidence: sum of the pixels' confidences
    """

    labels: list[int]
    corners: _Corners
    area: int
    confidence: float


def person_boxes(mask: NDArray[np.bool_], confidence: NDArray[np.float32]) -> Boxes:
    """A box for each person in a mask.

    Regions one above the other with a small gap are treated as one person who is partly hidden, for example by a table.
    A wide region is treated as several people side by side, and is cut at a column with few pixels. Boxes are enlarged
    by a fifth horizontally and a twentieth vertically.

    Args:
        mask: (H,W), the pixels of people
        confidence: (H,W) in 0..1

    Returns:
        (N,5): x, y, width, height in pixels, and the region's mean confidence
    """
    labels, regions = _regions(mask, confidence)
    people = [
        (*_enlarged(corners, *mask.shape), region.confidence / region.area)
        for region in _joined(regions)
        for corners, area in _people(labels, region)
        if area >= _SMALLEST_PERSON * mask.size
    ]
    return np.array(people, np.float32).reshape(-1, 5)


def _regions(mask: NDArray[np.bool_], confidence: NDArray[np.float32]) -> tuple[NDArray[np.int32], list[_Region]]:
    """The label of each pixel, and the connected regions, largest first."""
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    sums = np.bincount(labels.ravel(), weights=confidence.ravel(), minlength=count)
    regions = []
    for label in np.flatnonzero(statistics[:, cv2.CC_STAT_AREA] >= _SMALLEST_FRAGMENT * mask.size).tolist():
        left, top, width, height, area = statistics[label].tolist()
        # Label 0 is the background.
        if label > 0:
            regions.append(_Region([label], (left, top, left + width, top + height), area, float(sums[label])))
    return labels, sorted(regions, key=lambda region: -region.area)


def _joined(regions: list[_Region]) -> list[_Region]:
    """Join each region with a larger one directly above or below."""
    people: list[_Region] = []
    for region in regions:
        whole = next((larger for larger in people if _are_one(larger.corners, region.corners)), None)
        if whole is None:
            people.append(region)
            continue
        whole.labels += region.labels
        whole.corners = _around(whole.corners, region.corners)
        whole.area += region.area
        whole.confidence += region.confidence
    return people


def _are_one(one: _Corners, other: _Corners) -> bool:
    """Whether the narrower region is just above or below the wider one."""
    overlap = min(one[2], other[2]) - max(one[0], other[0])
    gap = max(one[1], other[1]) - min(one[3], other[3])
    _, top, _, bottom = _around(one, other)
    narrower = min(one[2] - one[0], other[2] - other[0])
    return overlap >= _LEAST_OVERLAP * narrower and gap <= _LARGEST_GAP * (bottom - top)


def _around(one: _Corners, other: _Corners) -> _Corners:
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


def _people(labels: NDArray[np.int32], region: _Region) -> Iterator[tuple[_Corners, int]]:
    """The corners and area of each person in a region."""
    left, top, right, bottom = region.corners
    if right - left < _WIDE * (bottom - top):
        yield region.corners, region.area
        return
    mask = np.isin(labels[top:bottom, left:right], region.labels)
    for first, last in _side_by_side(mask, 0, right - left):
        rows, columns = np.nonzero(mask[:, first:last])
        if len(rows):
            x, y = left + first, top
            corners = (x + columns.min(), y + rows.min(), x + columns.max() + 1, y + rows.max() + 1)
            yield (int(corners[0]), int(corners[1]), int(corners[2]), int(corners[3])), len(rows)


def _side_by_side(mask: NDArray[np.bool_], first: int, last: int) -> Iterator[tuple[int, int]]:
    """The first column of each person, and the column after the last person."""
    rows = np.flatnonzero(mask[:, first:last].any(axis=1))
    cut = None
    if len(rows) and last - first >= _WIDE * (rows[-1] + 1 - rows[0]):
        cut = _valley(mask[:, first:last].sum(axis=0).astype(np.float64))
    if cut is None:
        yield first, last
        return
    yield from _side_by_side(mask, first, first + cut)
    yield from _side_by_side(mask, first + cut, last)


def _valley(counts: NDArray[np.float64]) -> int | None:
    """The column between two people; None if one person fills all columns.

    Args:
        counts: number of pixels in each column
    """
    width = len(counts)
    if width < 8:
        return None
    window = max(1, width // 10) | 1
    smooth = np.convolve(np.pad(counts, window // 2, mode="edge"), np.full(window, 1 / window), "valid")
    peaks = np.minimum(np.maximum.accumulate(smooth)[:-1], np.maximum.accumulate(smooth[::-1])[::-1][1:])
    places = np.arange(max(1, int(_MIDDLE[0] * width)), int(_MIDDLE[1] * width) + 1)
    depths = smooth[places] / np.maximum(peaks[places - 1], 1e-6)
    best = int(depths.argmin())
    return int(places[best]) if depths[best] <= _VALLEY else None


def _enlarged(corners: _Corners, height: int, width: int) -> tuple[float, float, float, float]:
    """The box x, y, width, height, enlarged within the image."""
    left, top, right, bottom = corners
    across, along = (right - left) * (_ENLARGED[0] - 1) / 2, (bottom - top) * (_ENLARGED[1] - 1) / 2
    x, y = max(0.0, left - across), max(0.0, top - along)
    return x, y, min(width, right + across) - x, min(height, bottom + along) - y
