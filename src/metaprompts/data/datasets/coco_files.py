"""Parse COCO keypoint and detection files into arrays."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.datasets.odd_annotations import odd_boxes, odd_joints
from metaprompts.data.io.coco_annotations import (
    Annotations,
    Category,
    CocoImage,
    parse_annotations,
    parse_images,
)
from metaprompts.data.io.coco_entries import box_of, check_unique, has_size, parse_each, score_of, whole_of
from metaprompts.errors import InputError
from metaprompts.utils.files import read_json
from metaprompts.utils.wording import counted

_BOX = "image_id, category_id, bbox [x, y, width, height] and score"


@dataclass(frozen=True, kw_only=True, eq=False)
class Persons:
    """P people, one row each.

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


@dataclass(frozen=True, kw_only=True, eq=False)
class KeypointFile:
    """The content of a COCO keypoint file.

    Attributes:
        categories: at least one, all with the same J joints
        images: image id -> image
        persons: the annotations usable for training
        left_out: number of skipped annotations, by reason
        remarks: oddities, one line each
    """

    categories: tuple[Category, ...]
    images: dict[int, CocoImage]
    persons: Persons
    left_out: dict[str, int]
    remarks: tuple[str, ...]


def read_keypoints(path: Path) -> KeypointFile:
    """Read a COCO keypoint file.

    The first category with keypoints defines the joints; other categories with the same joints are read as well. Skips
    annotations without labeled joints, of crowds, of other categories, or with a box smaller than one pixel. Skipped
    annotations of the categories that are read are still checked, because scoring reads them.

    Args:
        path: JSON with ``images``, ``annotations`` and ``categories``

    Raises:
        InputError: the file is missing or broken JSON, entries are missing or of the wrong type, images or people are
            ambiguous, or no person remains
    """
    content = _content(path, "annotation file", "a COCO keypoint JSON: correct data.root, data.train or data.val")
    found = parse_annotations(content, path)
    images = parse_images(content["images"], path)
    people = [each for each in found.annotations if not each.is_crowd and each.labeled]
    # Predictions are matched by id.
    check_unique((each.id for each in people), path, "people", "annotation id", "number the annotations")
    fit = [each for each in people if has_size(each.box_xywh)]
    if not fit:
        raise InputError(
            f"{path} holds no person with labeled joints and a box of at least one pixel"
            f"{_because(found, len(people))}: boxes are x, y, width, height in pixels"
        )
    for each in fit:
        if each.image_id not in images:
            raise InputError(f"{path}: annotation {each.id} is for image {each.image_id}, which is not listed")
    persons = Persons(
        keypoints=np.array([each.keypoints for each in fit], np.float32),
        boxes_xywh=np.array([each.box_xywh for each in fit], np.float32),
        image_ids=np.array([each.image_id for each in fit], np.int64),
        annotation_ids=np.array([each.id for each in fit], np.int64),
        scores=np.ones(len(fit), np.float32),
        areas=np.array([each.area for each in fit], np.float32),
    )
    boxless, remarks = len(people) - len(fit), [*found.remarks]
    if boxless:
        remarks.append(f"{counted(boxless, 'person')} with a box smaller than one pixel skipped")

    def name(row: int) -> str:
        return f"annotation {fit[row].id}"

    sizes = _sizes(persons, images)
    remarks += odd_boxes(persons.boxes_xywh, sizes, name)
    remarks += odd_joints(persons.keypoints, sizes, persons.boxes_xywh, name)
    return KeypointFile(
        categories=found.categories,
        images=images,
        persons=persons,
        left_out=_left_out(found, boxless),
        remarks=tuple(f"{path}: {remark}" for remark in remarks),
    )


def read_detections(
    path: Path, keypoint_file: KeypointFile, *, minimum_score: float = 0.0
) -> tuple[Persons, tuple[str, ...]]:
    """Read the boxes that a person detector found.

    Skips boxes of other categories, of images that the keypoint file does not list, or smaller than one pixel.

    Args:
        path: JSON list of ``{image_id, category_id, bbox, score}``
        keypoint_file: lists the images and categories to use
        minimum_score: boxes with lower scores are skipped

    Returns:
        people with all keypoints 0, the box's area, and the position in the file as annotation id; and oddities, one
        line each

    Raises:
        InputError: the file is missing or broken JSON, entries are missing or of the wrong type, or no box remains
    """
    content = _content(path, "file of detections", "a JSON list of boxes: correct data.root or data.val_boxes")
    boxes = read_boxes(content, path)
    why = [_why_left_out(box, keypoint_file, minimum_score) for box in boxes]
    counts = Counter(filter(None, why))
    said = ", ".join(f"{count} {reason}" for reason, count in counts.items())
    found = [(place, box) for place, box in enumerate(boxes) if why[place] is None]
    if not found:
        raise InputError(
            f"{path} holds no box of a listed image with a score of at least {minimum_score} "
            f"({counted(len(boxes), 'box', 'boxes')}{': ' if said else ''}{said}): "
            "give detections for these images"
        )
    boxes_xywh = np.array([box.box_xywh for _, box in found])
    persons = Persons(
        keypoints=np.zeros((len(found), len(keypoint_file.categories[0].joints), 3), np.float32),
        boxes_xywh=boxes_xywh.astype(np.float32),
        image_ids=np.array([box.image_id for _, box in found], np.int64),
        annotation_ids=np.array([place for place, _ in found], np.int64),
        scores=np.array([box.score for _, box in found], np.float32),
        areas=boxes_xywh[:, 2:].prod(axis=1).astype(np.float32),
    )
    odd = odd_boxes(
        persons.boxes_xywh, _sizes(persons, keypoint_file.images), lambda row: f"entry {persons.annotation_ids[row]}"
    )
    # Most files have all of COCO's categories and test images: entries of other categories are skipped silently.
    empty = counts["smaller than one pixel"]
    remarks = [*([f"{counted(empty, 'box', 'boxes')} smaller than one pixel skipped"] if empty else []), *odd]
    annotated = set(keypoint_file.persons.image_ids.tolist())
    if missed := len(annotated - set(persons.image_ids.tolist())):
        remarks.append(
            f"no box for {missed} of {counted(len(annotated), 'image')} with annotated people, who count as missed"
        )
    return persons, tuple(f"{path}: {remark}" for remark in remarks)


@dataclass(frozen=True, kw_only=True, eq=False)
class DetectedBox:
    """A detection: box_xywh is (4,) in pixels."""

    image_id: int
    category_id: int
    box_xywh: NDArray[np.float64]
    score: float


def read_boxes(content: Any, path: Path) -> list[DetectedBox]:
    """Read all boxes of a COCO detection file, of any category, image and size.

    Args:
        content: content of the file, a list of ``{image_id, category_id, bbox, score}``
        path: path of the file, for the error

    Raises:
        InputError: the content is not a list, or entries are missing or of the wrong type
    """
    if not isinstance(content, list):
        raise InputError(f"{path} holds a JSON {type(content).__name__}; expected a list of detections")
    return parse_each(content, _box, path, "boxes", _BOX)


def _content(path: Path, what: str, expected: str) -> Any:
    if not path.is_file():
        raise InputError(f"{what} {path} does not exist; expected {expected}")
    return read_json(path)


def _because(found: Annotations, people: int) -> str:
    reasons = [f"{count} {reason}" for reason, count in _left_out(found, people).items()]
    return f" ({counted(len(found.annotations), 'annotation')}: {', '.join(reasons)})" if reasons else ""


def _left_out(found: Annotations, boxless: int) -> dict[str, int]:
    crowds = sum(each.is_crowd for each in found.annotations)
    unlabeled = sum(not each.is_crowd and not each.labeled for each in found.annotations)
    counts = {
        "of crowds": crowds,
        "without labeled joints": unlabeled,
        "with a box smaller than one pixel": boxless,
        "of other categories": found.of_others,
    }
    return {reason: count for reason, count in counts.items() if count}


def _sizes(persons: Persons, images: dict[int, CocoImage]) -> NDArray[np.float64]:
    """(P, 2) width and height of each person's image, nan if the file does not give them."""
    sides = ((images[number].width, images[number].height) for number in persons.image_ids.tolist())
    return np.array([(width or np.nan, height or np.nan) for width, height in sides], dtype=np.float64)


def _box(entry: dict[str, Any]) -> DetectedBox:
    return DetectedBox(
        image_id=whole_of(entry, "image_id"),
        category_id=whole_of(entry, "category_id"),
        box_xywh=box_of(entry),
        score=score_of(entry),
    )


def _why_left_out(box: DetectedBox, known: KeypointFile, minimum_score: float) -> str | None:
    ids = [category.id for category in known.categories]
    if box.category_id not in ids:
        return f"of categories other than {', '.join(map(str, ids))}"
    if box.image_id not in known.images:
        return "of images missing from the annotations"
    if box.score < minimum_score:
        return "with a lower score"
    return None if has_size(box.box_xywh) else "smaller than one pixel"
