"""Parse COCO keypoint and detection files into arrays."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from metaprompts.errors import InputError
from metaprompts.files import read_json

_Entry = TypeVar("_Entry")


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
    size are left out.

    Args:
        path: JSON with ``images``, ``annotations`` and ``categories``; the first category names the joints

    Raises:
        InputError: broken JSON, entries that are missing or of the wrong kind, or no person left
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a JSON {type(content).__name__}; expected a COCO keypoint file")
    lists = {key: _list_of(content, key, path) for key in ("images", "annotations", "categories")}
    if not lists["categories"]:
        raise InputError(f"{path} has no categories; expected one with keypoints")
    category_id, names, skeleton = _parse_each(lists["categories"][:1], _category, path, "categories")[0]
    pictures = dict(_parse_each(lists["images"], _picture, path, "images"))
    fit = [entry for entry in lists["annotations"] if _is_fit(entry, category_id)]
    rows = _parse_each(fit, lambda entry: _annotation(entry, len(names)), path, "annotations")
    rows = [row for row in rows if _has_size(row) and row.keypoints[:, 2].any()]
    if not rows:
        raise InputError(f"{path} holds no person with labeled joints and a box of positive size")
    for row in rows:
        if row.image_id not in pictures:
            raise InputError(f"{path}: annotation {row.annotation_id} is of image {row.image_id}, which is not listed")
    return KeypointFile(
        joint_names=names, skeleton=skeleton, category_id=category_id, pictures=pictures, persons=_stack(rows)
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
        InputError: broken JSON, entries that are missing or of the wrong kind, or no box left
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise InputError(f"{path} holds a JSON {type(content).__name__}; expected a list of detections")
    joints = len(keypoint_file.joint_names)
    found = [
        row
        for category_id, row in _parse_each(enumerate(content), lambda entry: _detection(entry, joints), path, "boxes")
        if category_id == keypoint_file.category_id
        and row.image_id in keypoint_file.pictures
        and row.score >= minimum_score
        and _has_size(row)
    ]
    if not found:
        raise InputError(f"{path} holds no box of a listed picture with a score of at least {minimum_score}")
    return _stack(found)


def _list_of(content: dict[str, Any], key: str, path: Path) -> list[Any]:
    value = content.get(key)
    if not isinstance(value, list):
        raise InputError(
            f"{path} has no list {key!r}; expected a COCO keypoint file with images, annotations, categories"
        )
    return value


def _parse_each(entries: Iterable[Any], parse: Callable[[Any], _Entry], path: Path, what: str) -> list[_Entry]:
    parsed = []
    for place, entry in enumerate(entries):
        try:
            parsed.append(parse(entry))
        except KeyError as error:
            raise InputError(f"{path}: entry {place} of the {what} has no {error}") from error
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            raise InputError(f"{path}: entry {place} of the {what} is wrong: {error}") from error
    return parsed


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
    return int(entry["id"]), picture


def _is_fit(entry: Any, category_id: int) -> bool:
    if not isinstance(entry, dict):
        return True  # parsing it will name it
    of_category = entry.get("category_id", category_id) == category_id
    return of_category and not entry.get("iscrowd", 0) and entry.get("num_keypoints", 1) != 0


def _annotation(entry: dict[str, Any], joints: int) -> _Row:
    box = _box(entry["bbox"])
    return _Row(
        keypoints=_numbers(entry["keypoints"], 3 * joints, "keypoints").reshape(joints, 3),
        box_xywh=box,
        image_id=int(entry["image_id"]),
        annotation_id=int(entry["id"]),
        score=1.0,
        area=float(entry.get("area", box[2] * box[3])),
    )


def _detection(place_and_entry: tuple[int, dict[str, Any]], joints: int) -> tuple[int, _Row]:
    place, entry = place_and_entry
    box = _box(entry["bbox"])
    row = _Row(
        keypoints=np.zeros((joints, 3), dtype=np.float32),
        box_xywh=box,
        image_id=int(entry["image_id"]),
        annotation_id=place,
        score=float(entry["score"]),
        area=float(box[2] * box[3]),
    )
    return int(entry["category_id"]), row


def _box(value: Any) -> NDArray[np.float32]:
    return _numbers(value, 4, "bbox")


def _numbers(value: Any, count: int, name: str) -> NDArray[np.float32]:
    numbers = np.asarray(value, dtype=np.float32)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise ValueError(f"{name} has shape {numbers.shape} or is not finite; expected {count} numbers")
    return numbers


def _has_size(row: _Row) -> bool:
    return bool((row.box_xywh[2:] > 0).all())


def _stack(rows: Sequence[_Row]) -> Persons:
    return Persons(
        keypoints=np.stack([row.keypoints for row in rows]),
        boxes_xywh=np.stack([row.box_xywh for row in rows]),
        image_ids=np.array([row.image_id for row in rows], dtype=np.int64),
        annotation_ids=np.array([row.annotation_id for row in rows], dtype=np.int64),
        scores=np.array([row.score for row in rows], dtype=np.float32),
        areas=np.array([row.area for row in rows], dtype=np.float32),
    )
