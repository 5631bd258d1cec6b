"""Track people over time by the overlap of boxes, and smooth their joints."""

from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from metaprompts.inference.detectors.base import box_iou
from metaprompts.inference.video.one_euro import OneEuroFilter
from metaprompts.tasks.predictions import PersonPose, PosePrediction

# Boxes that overlap less belong to different people.
_SAME_IOU = 0.3
# After this time out of sight, a person gets a new number.
_LOST_SECONDS = 1.0
# Positions are in units of the box's length, so that the filter treats near and far people the same.
_MIN_CUTOFF_HZ, _BETA = 2.0, 8.0


@dataclass(eq=False)
class _Track:
    number: int
    person: PersonPose
    seen_s: Fraction
    filter: OneEuroFilter = field(
        default_factory=lambda: OneEuroFilter(min_cutoff_hz=_MIN_CUTOFF_HZ, beta=_BETA, speed_cutoff_hz=1.0)
    )


class PoseTracks:
    """Gives people numbers that stay the same over time, and smooths their joints.

    Attributes:
        numbers: number of each person of the last frame, in order
        smooths: whether joints are filtered
    """

    def __init__(self, *, smooths: bool = True) -> None:
        self.numbers: tuple[int, ...] = ()
        self.smooths = smooths
        self._tracks: list[_Track] = []
        self._given = 0

    def __call__(self, prediction: PosePrediction, time_s: Fraction) -> PosePrediction:
        """The people of the next frame, with smoothed joints.

        Args:
            prediction: as predicted
            time_s: the frame's time, later than the previous one's
        """
        self._tracks = [track for track in self._tracks if time_s - track.seen_s <= _LOST_SECONDS]
        matched = self._matched(prediction.people)
        people, numbers = [], []
        for index, person in enumerate(prediction.people):
            track = matched.get(index) or self._new(person, time_s)
            people.append(self._smoothed(track, person, time_s))
            numbers.append(track.number)
            track.person, track.seen_s = person, time_s
        self.numbers = tuple(numbers)
        return replace(prediction, people=tuple(people))

    def _matched(self, people: tuple[PersonPose, ...]) -> dict[int, _Track]:
        """Index of a person -> track; pairs that overlap most are matched first."""
        if not people or not self._tracks:
            return {}
        boxes = np.array([person.box_xywh for person in people], np.float32)
        overlaps = np.stack([box_iou(np.array(track.person.box_xywh, np.float32), boxes) for track in self._tracks])
        matched: dict[int, _Track] = {}
        while overlaps.max() >= _SAME_IOU:
            row, column = divmod(int(overlaps.argmax()), len(people))
            matched[column] = self._tracks[row]
            overlaps[row], overlaps[:, column] = -1, -1
        return matched

    def _new(self, person: PersonPose, time_s: Fraction) -> _Track:
        self._given += 1
        self._tracks.append(_Track(self._given, person, time_s))
        return self._tracks[-1]

    def _smoothed(self, track: _Track, person: PersonPose, time_s: Fraction) -> PersonPose:
        if not self.smooths:
            return person
        length = max(person.box_xywh[2:])
        places = track.filter(person.keypoints.astype(np.float64) / length, float(time_s - track.seen_s))
        return replace(person, keypoints=(places * length).astype(np.float32))
