"""Track people over time by the overlap of boxes, and smooth their joints by a One-Euro filter."""

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from metaprompts.inference.detectors.base import box_iou
from metaprompts.tasks.predictions import PersonPose, PosePrediction

Values = NDArray[np.float64]

# Boxes that overlap less belong to different people.
_SAME_IOU = 0.3
# After this time out of sight, a person gets a new number.
_LOST_SECONDS = 1.0
# Positions are in units of the box's length, so that the filter treats near and far people the same. Joints are
# relative to the mean of all joints, so that the joints of a walking person do not lag.
_MIDDLE = {"min_cutoff_hz": 8.0, "beta": 60.0, "speed_cutoff_hz": 2.0}
_JOINTS = {"min_cutoff_hz": 2.0, "beta": 5.0, "speed_cutoff_hz": 2.0}


class OneEuroFilter:
    """A low-pass filter whose cutoff frequency grows with speed (Casiez et al., CHI 2012, equations 1 to 6).

    Args:
        min_cutoff_hz: cutoff at rest; lower is smoother
        beta: growth of the cutoff with speed, per unit of the values; higher values lag less in motion
        speed_cutoff_hz: cutoff of the filter that smooths the speed
    """

    def __init__(self, *, min_cutoff_hz: float, beta: float, speed_cutoff_hz: float = 1.0) -> None:
        self._min_cutoff_hz, self._beta, self._speed_cutoff_hz = min_cutoff_hz, beta, speed_cutoff_hz
        self._values: Values | None = None
        self._speed: Values | None = None

    def __call__(self, values: Values, seconds: float) -> Values:
        """Filter the next values.

        Args:
            values: values of any shape, which must be the same in every call
            seconds: time since the previous values, above 0; not used the first time
        """
        if self._values is None or self._speed is None:
            self._values, self._speed = values, np.zeros_like(values)
            return values
        speed = (values - self._values) / seconds
        self._speed = self._speed + _share(self._speed_cutoff_hz, seconds) * (speed - self._speed)
        cutoff_hz = self._min_cutoff_hz + self._beta * np.abs(self._speed)
        self._values = self._values + _share(cutoff_hz, seconds) * (values - self._values)
        return self._values


def _share(cutoff_hz: Values | float, seconds: float) -> Values | float:
    """The weight of new values."""
    turn = 2 * math.pi * cutoff_hz * seconds
    return turn / (turn + 1)


@dataclass(eq=False)
class _Track:
    number: int
    person: PersonPose
    seen_s: Fraction
    middle: OneEuroFilter = field(default_factory=lambda: OneEuroFilter(**_MIDDLE))
    joints: OneEuroFilter = field(default_factory=lambda: OneEuroFilter(**_JOINTS))

    def smoothed(self, keypoints: NDArray[np.float32], length: float, seconds: float) -> NDArray[np.float32]:
        """Filter the next keypoints (J,2), pixels, of a person whose box has this length."""
        places = keypoints.astype(np.float64) / length
        middle = places.mean(axis=0)
        steady = self.middle(middle, seconds) + self.joints(places - middle, seconds)
        return (steady * length).astype(np.float32)


class PoseTracks:
    """Gives people numbers that stay the same over time, and smooths their joints.

    Attributes:
        numbers: number of each person in the last frame, in order
        smooths: whether joints are filtered
    """

    def __init__(self, *, smooths: bool = True) -> None:
        self.numbers: tuple[int, ...] = ()
        self.smooths = smooths
        self._tracks: list[_Track] = []
        self._given = 0

    def __call__(self, prediction: PosePrediction, time_s: Fraction) -> PosePrediction:
        """The people in the next frame, with smoothed joints.

        Args:
            prediction: the prediction for the frame
            time_s: the frame's time, later than that of the previous frame
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
        keypoints = track.smoothed(person.keypoints, length, float(time_s - track.seen_s))
        return replace(person, keypoints=keypoints)
