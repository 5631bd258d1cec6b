"""The typed reader of COCO keypoint annotations, for training and scoring; errors name position and field."""

import posixpath
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaprompts.data.io.coco_entries import (
    area_of,
    box_of,
    check_unique,
    is_crowd,
    list_of,
    numbers_of,
    parse_each,
    shown,
    text_of,
    whole_of,
    whole_or_none,
)
from metaprompts.errors import InputError
from metaprompts.utils.wording import counted, is_one_line

# Maximum length of a file name in bytes; opening a longer one raises a system error.
_LONGEST_NAME = 255
_SMALLEST_PART = 1e-3
_LISTS = ("images", "annotations", "categories")
_ANNOTATION = "id, image_id, bbox [x, y, width, height] and keypoints [x, y, visibility, ...]"


@dataclass(frozen=True, kw_only=True)
class CocoImage:
    """An image entry of the annotation file; the size is None if missing."""

    file_name: str
    width: int | None
    height: int | None


@dataclass(frozen=True, kw_only=True)
class Category:
    """A category.

    Attributes:
        id: number of the category
        name: may be empty
        joints: joint names; none if the category has no keypoints
        skeleton: pairs of joint indices from 0
    """

    id: int
    name: str
    joints: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Annotation:
    """An annotation of a category with these joints.

    Attributes:
        id: number of the annotation; -1 if missing, which is allowed for crowds and for people without labeled joints
        image_id: id of the image
        box_xywh: (4,)
        keypoints: (J, 3): x, y, visibility
        is_crowd: whether it annotates a crowd
        labeled: number of labeled joints; 0 if the file has num_keypoints 0
        area: in square pixels; the box's area if the file has none above 0
        has_area: whether the file has an area
        has_count: whether the file's num_keypoints equals the number of labeled joints, or is missing
    """

    id: int
    image_id: int
    box_xywh: NDArray[np.float64]
    keypoints: NDArray[np.float64]
    is_crowd: bool
    labeled: int
    area: float
    has_area: bool
    has_count: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Annotations:
    """The annotations of all categories with the same joints.

    Attributes:
        categories: at least one
        annotations: annotations of these categories
        of_others: number of annotations of other categories
        remarks: oddities, one line each
    """

    categories: tuple[Category, ...]
    annotations: tuple[Annotation, ...]
    of_others: int
    remarks: tuple[str, ...]


def parse_annotations(content: Any, where: Path | str, joints: int | None = None) -> Annotations:
    """Read categories and annotations.

    Args:
        content: content of the file
        where: the file, for errors
        joints: number of joints, if categories need not name them; None to use the first category that names joints

    Raises:
        InputError: the content is not a COCO keypoint file, or an entry is invalid
    """
    if not isinstance(content, dict):
        raise InputError(f"{where} holds a JSON {type(content).__name__}; expected a COCO keypoint file")
    for key in _LISTS:
        if not isinstance(content.get(key), list):
            raise InputError(
                f"{where} has no list {key!r}; expected a COCO keypoint file with images, annotations, categories"
            )
    every = parse_categories(content["categories"], where)
    chosen = _with_joints(every, where) if joints is None or any(each.joints for each in every) else tuple(every[:1])
    count = len(chosen[0].joints) if joints is None else joints
    ids = {each.id for each in chosen}
    others = Counter[int]()

    def parse(entry: dict[str, Any]) -> Annotation | None:
        category = whole_or_none(entry, "category_id")
        if category is not None and category not in ids:
            others[category] += 1
            return None
        return _annotation(entry, count)

    parsed = parse_each(content["annotations"], parse, where, "annotations", _ANNOTATION)
    found = tuple(each for each in parsed if each is not None)
    remarks = (*_of_other_categories(others, every, chosen), *_remarks(found))
    return Annotations(categories=chosen, annotations=found, of_others=others.total(), remarks=remarks)


def parse_categories(entries: Sequence[Any], where: Path | str) -> list[Category]:
    """Read the categories.

    Raises:
        InputError: there is no category, one is invalid, or two have the same id
    """
    if not entries:
        raise InputError(f"{where} has no categories; expected one with keypoints")
    categories = parse_each(entries, _category, where, "categories", "id, name and keypoints, the joints' names")
    check_unique((each.id for each in categories), where, "categories", "id", "number the categories")
    return categories


def parse_images(entries: Sequence[Any], where: Path | str) -> dict[int, CocoImage]:
    """Read the images: id -> image.

    Raises:
        InputError: an image is invalid, or two have the same id or file name
    """
    images = parse_each(entries, _image, where, "images", "id and file_name")
    check_unique((number for number, _ in images), where, "images", "id", "number the images")
    # "0.png" and "./0.png" name the same file.
    names = (posixpath.normpath(each.file_name) for _, each in images)
    check_unique(names, where, "images", "file_name", "list each image once, under its path")
    return dict(images)


def as_ground_truth(content: Any, where: Path | str, joints: int) -> dict[str, Any]:
    """The annotations in the form that COCO's own evaluation expects: one category, all fields present, ids from 1.

    COCO's evaluation treats id 0 as no match. An annotation's original id becomes its source_id.

    Args:
        content: content of a COCO keypoint file; it is not changed
        where: the file, for errors
        joints: number of joints

    Raises:
        InputError: the content is not a COCO keypoint file, or an entry is invalid
    """
    found = parse_annotations(content, where, joints)
    images = parse_each(content["images"], lambda entry: {"id": whole_of(entry, "id")}, where, "images", "id")
    check_unique((image["id"] for image in images), where, "images", "id", "number the images")
    category = found.categories[0].id
    annotations = [
        {
            "id": number,
            "source_id": each.id,
            "image_id": each.image_id,
            "category_id": category,
            "iscrowd": int(each.is_crowd),
            "num_keypoints": each.labeled,
            "keypoints": each.keypoints.ravel().tolist(),
            "bbox": each.box_xywh.tolist(),
            "area": each.area,
        }
        for number, each in enumerate(found.annotations, start=1)
    ]
    return {"images": images, "annotations": annotations, "categories": [{"id": category, "name": "person"}]}


def _with_joints(categories: Sequence[Category], where: Path | str) -> tuple[Category, ...]:
    """The first category with joints, and all categories with the same joints."""
    first = next((each for each in categories if each.joints), None)
    if first is None:
        names = ", ".join(map(_called, categories))
        raise InputError(
            f"{where}: no category ({names}) has keypoints; expected at least one whose keypoints name its joints"
        )
    return tuple(each for each in categories if each.joints == first.joints)


def _called(category: Category) -> str:
    return category.name or str(category.id)


def _of_other_categories(others: Counter[int], every: Sequence[Category], chosen: Sequence[Category]) -> list[str]:
    if not others:
        return []
    names = {each.id: _called(each) for each in every}
    listed = ", ".join(
        f"{count} of {names.get(number, f'{number}, which is not listed')}" for number, count in others.items()
    )
    read = ", ".join(map(_called, chosen))
    return [f"{counted(others.total(), 'annotation')} of categories other than {read} skipped ({listed})"]


def _remarks(annotations: Sequence[Annotation]) -> list[str]:
    people = [each for each in annotations if not each.is_crowd]
    without_area = sum(not each.has_area for each in people)
    odd = [each for each in people if each.has_area and _has_odd_area(each)]
    miscounted = sum(not each.has_count for each in people)
    remarks = []
    if odd:
        box = odd[0].box_xywh
        remarks.append(
            f"{len(odd)} of {len(people)} people have an area larger than their box or below a thousandth of it, "
            f"such as {odd[0].area:g} in a box of {box[2]:g}x{box[3]:g}; AP uses area as the person's size in square "
            "pixels: correct area, or remove it"
        )
    if without_area:
        remarks.append(f"{without_area} of {len(people)} people have no area above 0: the area of the box is used")
    if miscounted:
        remarks.append(
            f"num_keypoints of {miscounted} of {len(people)} people differs from the number of labeled joints"
        )
    return remarks


def _has_odd_area(person: Annotation) -> bool:
    box = float(person.box_xywh[2] * person.box_xywh[3])
    # Tolerance for rounding, and for outlines through pixel centers.
    return not _SMALLEST_PART * box <= person.area <= 1.1 * box + 2


def _category(entry: dict[str, Any]) -> Category:
    joints = tuple(text_of({"keypoints": name}, "keypoints") for name in list_of(entry, "keypoints"))
    for joint in joints:
        if not is_one_line(joint):
            raise ValueError(f"keypoints has {joint!r}; expected names without line breaks or control characters")
    # COCO counts the joints of a skeleton from 1.
    skeleton = tuple(map(_bone, list_of(entry, "skeleton"))) if joints else ()
    if any(not 0 <= joint < len(joints) for bone in skeleton for joint in bone):
        raise ValueError(f"its skeleton names joints outside 1 to {len(joints)}")
    name = "" if entry.get("name") is None else str(entry["name"])
    if name and not is_one_line(name):
        raise ValueError(f"name is {name!r}; expected one without line breaks or control characters")
    return Category(id=whole_of(entry, "id"), name=name, joints=joints, skeleton=skeleton)


def _bone(pair: Any) -> tuple[int, int]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise ValueError(f"its skeleton has {shown(pair)}; expected pairs of joint numbers")
    start, end = (whole_of({"skeleton": joint}, "skeleton") - 1 for joint in pair)
    return start, end


def _image(entry: dict[str, Any]) -> tuple[int, CocoImage]:
    sides = {side: whole_or_none(entry, side) or None for side in ("width", "height")}
    for side, value in sides.items():
        if value is not None and value < 0:
            raise ValueError(f"{side} is {value}; expected at least 1")
    return whole_of(entry, "id"), CocoImage(file_name=_file_name(entry), **sides)


def _file_name(entry: dict[str, Any]) -> str:
    name = text_of(entry, "file_name")
    if any(len(part.encode(errors="surrogateescape")) > _LONGEST_NAME for part in name.split("/")):
        raise ValueError(f"file_name is {shown(name)}, longer than file systems allow")
    return name


def _annotation(entry: dict[str, Any], joints: int) -> Annotation:
    box, given, crowd = box_of(entry), whole_or_none(entry, "num_keypoints"), is_crowd(entry)
    if (crowd or given == 0) and not list_of(entry, "keypoints"):
        keypoints = np.zeros((joints, 3))
    else:
        keypoints = _keypoints(entry, joints)
    labeled = int((keypoints[:, 2] > 0).sum())
    counted = 0 if given == 0 else labeled
    area = area_of(entry)
    return Annotation(
        # People ignored by COCO are not matched.
        id=-1 if (crowd or not counted) and entry.get("id") is None else whole_of(entry, "id"),
        image_id=whole_of(entry, "image_id"),
        box_xywh=box,
        keypoints=keypoints,
        is_crowd=crowd,
        labeled=counted,
        area=float(box[2] * box[3]) if area is None else area,
        has_area=area is not None,
        has_count=given is None or given == labeled,
    )


def _keypoints(entry: dict[str, Any], joints: int) -> NDArray[np.float64]:
    found = entry["keypoints"]
    if isinstance(found, list) and len(found) != 3 * joints:
        raise ValueError(
            f"keypoints has {len(found)} numbers; expected {3 * joints}: x, y and visibility of {joints} joints"
        )
    keypoints = numbers_of(entry, "keypoints", 3 * joints).reshape(joints, 3)
    odd = ~np.isin(keypoints[:, 2], (0, 1, 2))
    if odd.any():
        raise ValueError(f"the visibility of a joint is {keypoints[odd, 2][0]:g}; expected 0 (not labeled), 1 or 2")
    return keypoints
