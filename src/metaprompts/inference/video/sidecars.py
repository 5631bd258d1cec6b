"""Sidecar files of a clip: people as JSON lines, classes as JSON."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from metaprompts.tasks.predictions import PersonPose, PosePrediction, SegmentationPrediction
from metaprompts.utils.files import json_line, write_json, write_whole
from metaprompts.visualize.segmentation import class_entries


class Sidecar(ABC):
    """A file with an entry for each frame, or a summary; it appears when the block ends without an error."""

    @abstractmethod
    def add(self, prediction: Any, time_s: float, numbers: Sequence[int]) -> None:
        """Add the next frame's prediction, with its time and, for pose, the number of each person."""

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class PeopleLines(Sidecar):
    """``STEM_pose.jsonl``: a line for each frame, in which each person keeps the same number.

    Args:
        folder: folder of the file
        stem: prefix of its name
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self._path, self._stack, self._frames = folder / f"{stem}_pose.jsonl", ExitStack(), 0

    def __enter__(self) -> Self:
        scratch = self._stack.enter_context(write_whole(self._path))
        self._file = self._stack.enter_context(scratch.open("w", encoding="utf-8"))
        return self

    def add(self, prediction: PosePrediction, time_s: float, numbers: Sequence[int]) -> None:
        """Write a line."""
        people = [_entry(person, number) for person, number in zip(prediction.people, numbers, strict=True)]
        self._file.write(json_line({"frame": self._frames, "time": round(time_s, 6), "people": people}))
        self._frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


class ClassShares(Sidecar):
    """``STEM_classes.json``: the classes with their colors and their average shares over the frames.

    Args:
        folder: folder of the file
        stem: prefix of its name
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self._path, self._frames = folder / f"{stem}_classes.json", 0
        self._total: NDArray[np.float64]

    def add(self, prediction: SegmentationPrediction, time_s: float, numbers: Sequence[int]) -> None:
        """Add a frame's shares."""
        shares = prediction.shares()
        now = np.array([shares.get(name, 0.0) for name in prediction.classes])
        self._classes, self._total = prediction.classes, now if not self._frames else self._total + now
        self._frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._frames:
            write_json(self._path, class_entries(self._classes, (self._total / self._frames).tolist()))


def sidecar_for(prediction: Any, folder: Path, stem: str) -> Sidecar | None:
    """The sidecar file for a video's predictions; None if the task needs none."""
    if isinstance(prediction, PosePrediction):
        return PeopleLines(folder, stem)
    return ClassShares(folder, stem) if isinstance(prediction, SegmentationPrediction) else None


def _entry(person: PersonPose, number: int) -> dict[str, Any]:
    joints = np.column_stack([person.keypoints, person.scores]).astype(float)
    return {
        "track_id": number,
        "bbox": [float(value) for value in person.box_xywh],
        "score": float(person.score),
        "keypoints": joints.round(3).tolist(),
    }
