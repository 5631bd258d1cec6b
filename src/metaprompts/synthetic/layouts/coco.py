"""COCO 2017 keypoints, with a file of detected people."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from metaprompts.data.joints import COCO_JOINTS
from metaprompts.synthetic import Scene, ScenePerson
from metaprompts.synthetic.layouts.base import Kind, Layout, Place, Record, one_line_json
from metaprompts.synthetic.layouts.outlines import edge_polygons
from metaprompts.synthetic.layouts.pixels import save_image

_PERSON = 1
_PEOPLE_OF_A_IMAGE = 100
_SKELETON = "16-14 14-12 17-15 15-13 12-13 6-12 7-13 6-7 6-8 7-9 8-10 9-11 2-3 1-2 1-3 2-4 3-5 4-6 5-7"
_DETECTIONS = "person_detection_results/COCO_val2017_detections_AP_H_56_person.json"
_JITTER = 0.05
_FALSE_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class Coco(Layout):
    """Rooms and streets with people's keypoints, masks and boxes."""

    kind: ClassVar[Kind | None] = None
    size: ClassVar[tuple[int, int]] = (480, 640)
    has_targets: ClassVar[bool] = False
    has_people: ClassVar[bool] = True
    lists: ClassVar[tuple[str, ...]] = (
        "annotations/person_keypoints_train2017.json",
        "annotations/person_keypoints_val2017.json",
        _DETECTIONS,
    )
    about: ClassVar[str] = """\
train2017/, val2017/          images
annotations/                  person_keypoints_*2017.json: keypoints, boxes, masks as polygons
person_detection_results/     boxes as a detector might give them, for the validation images

Masks are exact; a polygon reaches each of its holes by a path there and back. A detected box is the true one with each
edge moved by up to 5 % of the box's size, and a score of 0.6 to 1; in half of the images there is also a false box,
with a score below 0.4. Images without people are listed as well; if a split has no people, its last scene has a
different seed. Dates and URLs are placeholders.

    metaprompts train micro_pose --data.root DIR \\
      --data.train annotations/person_keypoints_train2017.json --data.train_images train2017 \\
      --data.val annotations/person_keypoints_val2017.json --data.val_images val2017
"""

    def image(self, place: Place) -> str:
        """Path of an image."""
        return f"{place.split}2017/{place.index + 1:012d}.jpg"

    def target(self, place: Place) -> None:
        """None, because people are in the annotation files."""
        del place

    def write(self, scene: Scene, place: Place, root: Path) -> Record:
        """Write an image; the people go into the annotation files."""
        save_image(root / self.image(place), scene.image)
        return {**person_records(scene, place), "detections": _detections(scene, place)}

    def list_texts(self, rows: Sequence[tuple[Place, Record]]) -> dict[str, str]:
        """Annotations of both splits, and detections."""
        train, val = ([(place, record) for place, record in rows if place.split == split] for split in ("train", "val"))
        detections = [box for _, record in val for box in record["detections"]]
        values = (annotations(train, self.image), annotations(val, self.image), detections)
        texts = [one_line_json(value) for value in values]
        return dict(zip(self.lists, texts, strict=True))


def person_records(scene: Scene, place: Place) -> Record:
    """The entry of a scene in an annotation file: its size, and its people."""
    height, width, _ = scene.image.shape
    people = [_annotation(scene, person, place, number) for number, person in enumerate(scene.people, start=1)]
    return {"height": height, "width": width, "people": people}


def _annotation(scene: Scene, person: ScenePerson, place: Place, number: int) -> dict[str, Any]:
    return {
        "segmentation": edge_polygons(scene.things == person.thing),
        "num_keypoints": int((person.keypoints[:, 2] > 0).sum()),
        "area": float(person.area),
        "iscrowd": 0,
        "keypoints": [value for x, y, seen in person.keypoints.astype(float).tolist() for value in (x, y, int(seen))],
        "image_id": place.index + 1,
        "bbox": person.box_xywh.astype(float).tolist(),
        "category_id": _PERSON,
        "id": (place.index + 1) * _PEOPLE_OF_A_IMAGE + number,
    }


def _detections(scene: Scene, place: Place) -> list[dict[str, Any]]:
    """Boxes close to the true boxes, and occasional false positives."""
    rng = np.random.Generator(np.random.PCG64(scene.seed))
    height, width, _ = scene.image.shape
    found = [
        (_moved(person.box_xywh.astype(float).tolist(), rng), 0.6 + 0.399 * rng.random()) for person in scene.people
    ]
    if rng.random() < _FALSE_SHARE:
        wide, high = (0.1 + 0.2 * rng.random()) * width, (0.2 + 0.4 * rng.random()) * height
        no_people = [rng.random() * (width - wide), rng.random() * (height - high), wide, high]
        found.append((no_people, 0.05 + 0.3 * rng.random()))
    return [
        {"bbox": box, "category_id": _PERSON, "image_id": place.index + 1, "score": score}
        for box, score in sorted(found, key=lambda item: -item[1])
    ]


def _moved(box: list[float], rng: np.random.Generator) -> list[float]:
    left, top, wide, high = box
    shifts = [(2 * rng.random() - 1) * _JITTER * side for side in (wide, high, wide, high)]
    return [left + shifts[0], top + shifts[1], wide - shifts[0] + shifts[2], high - shifts[1] + shifts[3]]


def annotations(rows: Sequence[tuple[Place, Record]], image: Callable[[Place], str]) -> dict[str, Any]:
    """A complete annotation file.

    Args:
        rows: rows of one split, each with `person_records`
        image: path of an image, whose name goes into the file
    """
    return {
        "info": {
            "description": "Generated scenes in the layout of COCO 2017",
            "url": "",
            "version": "1.0",
            "year": 1970,
            "contributor": "",
            "date_created": "1970/01/01",
        },
        "licenses": [{"url": "", "id": 1, "name": "Generated image"}],
        "images": [_image(place, record, PurePosixPath(image(place)).name) for place, record in rows],
        "annotations": [person for _, record in rows for person in record["people"]],
        "categories": [
            {
                "supercategory": "person",
                "id": _PERSON,
                "name": "person",
                "keypoints": list(COCO_JOINTS),
                "skeleton": [[int(joint) for joint in bone.split("-")] for bone in _SKELETON.split()],
            }
        ],
    }


def _image(place: Place, record: Record, file_name: str) -> dict[str, Any]:
    return {
        "license": 1,
        "file_name": file_name,
        "coco_url": "",
        "height": record["height"],
        "width": record["width"],
        "date_captured": "1970-01-01 00:00:00",
        "flickr_url": "",
        "id": place.index + 1,
    }
