"""Parse COCO keypoint and detection files into arrays."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.entries import (
    area_of,
    box_of,
    has_size,
    is_passed_over,
    numbers_of,
    parse_each,
    score_of,
    whole_of,
)
from metaprompts.errors import InputError
from metaprompts.files import read_json

_ANNOTATION = "id, image_id, bbox [x, y, width, height] and keypoints [x, y, visibility, ...]"
_BOX = "image_id, category_id, bbox [x, y, width, height] and score"


@dataclass(frozen=True, kw_only=True, eq=False)
class Persons:
    """P persons, one row each.

    Attributes:
        keypoints: (P, J, 3) float32: x, y, visibility
        boxes_xywh: (P, 4) float32
        image_ids: (P,) int64
        annotation_ids: (P,) int64
        scores: (P,) float32
        areas: (P,) float32
    """

    keypoints: NDArray[np.float32]
    boxes_xywh: NDArray[np.float32]
    image_ids: NDArray[np.int64]
    annotation_ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    areas: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.image_ids)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture as the annotation file describes it; the size is None where it says nothing."""

    file_name: str
    width: int | None
    height: int | None


@dataclass(frozen=True, kw_only=True, eq=False)
class KeypointFile:
    """What a COCO keypoint file holds.

    Attributes:
        joint_names: the J joints in order
        skeleton: pairs of joint indices from 0
        category_id: the id of the category that has the joints
        pictures: by image id
        persons: the annotations fit for training
    """

    joint_names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...]
    category_id: int
    pictures: dict[int, Picture]
    persons: Persons


@dataclass(frozen=True)
class _Row:
    keypoints: NDArray[np.float32]
    box_xywh: NDArray[np.float32]
    image_id: int
    annotation_id: int
    score: float
    area: float


def read_keypoints(path: Path) -> KeypointFile:
    """Read a COCO keypoint file.

    Annotations without labeled joints, of crowds, of other categories than the first, or whose box has no positive
    size are left out. Those of the category are checked even so: scoring reads them.

    Args:
        path: JSON with ``images``, ``annotations`` and ``categories``; the first category names the joints

    Raises:
        InputError: no such file, broken JSON, entries that are missing or of the wrong kind, ids that are not their
            person's own, or no person left
    """
    content = _content(path, "annotation file", "a COCO keypoint JSON: correct data.root, data.train or data.val")
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a JSON {type(content).__name__}; expected a COCO keypoint file")
    lists = {key: _list_of(content, key, path) for key in ("images", "annotations", "categories")}
    if not lists["categories"]:
        raise InputError(f"{path} has no categories; expected one with keypoints")
    ((category_id, names, skeleton),) = parse_each(
        lists["categories"][:1], _category, path, "categories", "id and keypoints, the joints' names"
    )
    pictures = dict(parse_each(lists["images"], _picture, path, "images", "id and file_name"))
    parsed = parse_each(
        lists["annotations"],
        lambda entry: _annotation(entry, category_id, len(names)),
        path,
        "annotations",
        _ANNOTATION,
    )
    people = [row for row in parsed if row is not None]
    refuse_same_ids((row.annotation_id for row in people), path)
    rows = [row for row in people if has_size(row.box_xywh) and row.keypoints[:, 2].any()]
    if not rows:
        raise InputError(f"{path} holds no person with labeled joints and a box of positive size")
    for row in rows:
        if row.image_id not in pictures:
            raise InputError(f"{path}: annotation {row.annotation_id} is of image {row.image_id}, which is not listed")
    return KeypointFile(
        joint_names=names, skeleton=skeleton, category_id=category_id, pictures=pictures, persons=_stack(rows)
    )


def refuse_same_ids(ids: Iterable[int], path: Path) -> None:
    """Check that no two persons have the same id, by which what was predicted is matched to them.

    Raises:
        InputError: some have
    """
    for number, times in Counter(ids).most_common(1):
        if times > 1:
            raise InputError(
                f"{path}: {times} persons have the annotation id {number}; wanted an id of its own for each: number "
                "the annotations"
            )


def read_detections(path: Path, keypoint_file: KeypointFile, *, minimum_score: float = 0.0) -> Persons:
    """Read the boxes a person detector found.

    Boxes of other categories, of pictures that the keypoint file does not list, or without positive size are left out.

    Args:
        path: JSON list of ``{image_id, category_id, bbox, score}``
        keypoint_file: says which pictures and category count
        minimum_score: boxes below it are left out

    Returns:
        persons whose keypoints are all 0, whose area is the box's, and whose annotation id is the place in the file

    Raises:
        InputError: no such file, broken JSON, entries that are missing or of the wrong kind, or no box left
    """
    content = _content(path, "file of detections", "a JSON list of boxes: correct data.root or data.val_boxes")
    boxes = read_boxes(content, path)
    joints = len(keypoint_file.joint_names)
    rows = [_detection(place, box, joints) for place, box in enumerate(boxes)]
    why = [_why_left_out(box, row, keypoint_file, minimum_score) for box, row in zip(boxes, rows, strict=True)]
    found = [row for row, reason in zip(rows, why, strict=True) if reason is None]
    if not found:
        counts = ", ".join(f"{count} {reason}" for reason, count in Counter(filter(None, why)).items())
        raise InputError(
            f"{path} holds no box of a listed picture with a score of at least {minimum_score} "
            f"({len(boxes)} boxes{': ' if counts else ''}{counts}): give the detections of these pictures"
        )
    return _stack(found)


@dataclass(frozen=True, kw_only=True, eq=False)
class DetectedBox:
    """What a detector found: box_xywh is (4,) float32, in pixels."""

    image_id: int
    category_id: int
    box_xywh: NDArray[np.float32]
    score: float


def read_boxes(content: Any, path: Path) -> list[DetectedBox]:
    """Read all boxes of a COCO detection file, of whatever category, picture and size.

    Args:
        content: of the file, a list of ``{image_id, category_id, bbox, score}``
        path: of the file, for the error

    Raises:
        InputError: it is no list, or entries are missing or of the wrong kind
    """
    if not isinstance(content, list):
        raise InputError(f"{path} holds a JSON {type(content).__name__}; expected a list of detections")
    return parse_each(content, _box, path, "boxes", _BOX)


def _content(path: Path, what: str, wanted: str) -> Any:
    if not path.is_file():
        raise InputError(f"{what} {path} does not exist; wanted {wanted}")
    return read_json(path)


def _list_of(content: dict[str, Any], key: str, path: Path) -> list[Any]:
    value = content.get(key)
    if not isinstance(value, list):
        raise InputError(
            f"{path} has no list {key!r}; expected a COCO keypoint file with images, annotations, categories"
        )
    return value


def _category(entry: dict[str, Any]) -> tuple[int, tuple[str, ...], tuple[tuple[int, int], ...]]:
    names = tuple(str(name) for name in entry["keypoints"])
    if not names:
        raise ValueError("it names no keypoints")
    # COCO counts the joints of a skeleton from 1.
    skeleton = tuple((int(start) - 1, int(end) - 1) for start, end in entry.get("skeleton", ()))
    if any(not 0 <= joint < len(names) for bone in skeleton for joint in bone):
        raise ValueError(f"its skeleton names joints outside 1 to {len(names)}")
    return int(entry["id"]), names, skeleton


def _picture(entry: dict[str, Any]) -> tuple[int, Picture]:
    picture = Picture(file_name=str(entry["file_name"]), width=entry.get("width"), height=entry.get("height"))
    return whole_of(entry, "id"), picture


def _annotation(entry: dict[str, Any], category_id: int, joints: int) -> _Row | None:
    """The person; None where it is of another category, a crowd, or without labeled joints."""
    if entry.get("category_id", category_id) != category_id:
        return None
    image_id, box = whole_of(entry, "image_id"), box_of(entry)
    area = area_of(entry, box)
    left_out = is_passed_over(entry)
    if left_out and not entry.get("keypoints"):
        return None
    keypoints = numbers_of(entry, "keypoints", 3 * joints).reshape(joints, 3)
    if left_out:
        return None
    return _Row(
        keypoints=keypoints,
        box_xywh=box,
        image_id=image_id,
        annotation_id=whole_of(entry, "id"),
        score=1.0,
        area=area,
    )


def _box(entry: dict[str, Any]) -> DetectedBox:
    return DetectedBox(
        image_id=int(entry["image_id"]),
        category_id=int(entry["category_id"]),
        box_xywh=box_of(entry),
        score=score_of(entry),
    )


def _detection(place: int, box: DetectedBox, joints: int) -> _Row:
    return _Row(
        keypoints=np.zeros((joints, 3), dtype=np.float32),
        box_xywh=box.box_xywh,
        image_id=box.image_id,
        annotation_id=place,
        score=box.score,
        area=float(box.box_xywh[2] * box.box_xywh[3]),
    )


def _why_left_out(box: DetectedBox, row: _Row, known: KeypointFile, minimum_score: float) -> str | None:
    if box.category_id != known.category_id:
        return f"of other categories than {known.category_id}"
    if box.image_id not in known.pictures:
        return "of pictures that the annotations do not list"
    if box.score < minimum_score:
        return "of a lower score"
    return None if has_size(box.box_xywh) else "without positive size"


def _stack(rows: Sequence[_Row]) -> Persons:
    return Persons(
        keypoints=np.stack([row.keypoints for row in rows]),
        boxes_xywh=np.stack([row.box_xywh for row in rows]),
        image_ids=np.array([row.image_id for row in rows], dtype=np.int64),
        annotation_ids=np.array([row.annotation_id for row in rows], dtype=np.int64),
        scores=np.array([row.score for row in rows], dtype=np.float32),
        areas=np.array([row.area for row in rows], dtype=np.float32),
    )
