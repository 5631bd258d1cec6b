"""Cityscapes with fine annotations."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from metaprompts.synthetic import Scene
from metaprompts.synthetic.layouts.base import Kind, Layout, Place, Record, one_line_json
from metaprompts.synthetic.layouts.outlines import painted_outlines
from metaprompts.synthetic.layouts.pixels import class_ids, instance_numbers, save_image
from metaprompts.utils.files import write_text


@dataclass(frozen=True)
class _Label:
    name: str
    id: int
    train_id: int
    color: tuple[int, int, int]


_LABELS = {
    "road": _Label("road", 7, 0, (128, 64, 128)),
    "pavement": _Label("sidewalk", 8, 1, (244, 35, 232)),
    "building": _Label("building", 11, 2, (70, 70, 70)),
    "pole": _Label("pole", 17, 5, (153, 153, 153)),
    "sign": _Label("traffic sign", 20, 7, (220, 220, 0)),
    "tree": _Label("vegetation", 21, 8, (107, 142, 35)),
    "sky": _Label("sky", 23, 10, (70, 130, 180)),
    "person": _Label("person", 24, 11, (220, 20, 60)),
    "car": _Label("car", 26, 13, (0, 0, 142)),
}
"""Scene class -> Cityscapes label; no other class occurs in streets."""

_UNLABELED = _Label("unlabeled", 0, 255, (0, 0, 0))
_COUNTED = ("person", "car")
_INSTANCES_OF_A_CLASS = 1000
_CITIES = {"train": "aachen", "val": "frankfurt", "test": "berlin"}
_KINDS = ("labelIds.png", "instanceIds.png", "color.png", "polygons.json")


@dataclass(frozen=True, kw_only=True)
class Cityscapes(Layout):
    """Streets with labels, instances and polygons."""

    kind: ClassVar[Kind | None] = "street"
    size: ClassVar[tuple[int, int]] = (256, 512)
    has_test: ClassVar[bool] = True
    lists: ClassVar[tuple[str, ...]] = ()
    about: ClassVar[str] = """\
leftImg8bit/<split>/<city>/    images; the real ones are 1024 x 2048
gtFine/<split>/<city>/         *_labelIds.png, *_instanceIds.png (16-bit), *_color.png, *_polygons.json, and
                               *_labelTrainIds.png, which the official scripts make from the real download

Each split has one city. Labels of the test split are empty, as in the real data set. An object with several visible
parts has a polygon for each part.

    metaprompts train micro_segmentation --data.root DIR --data.ignored 255 --task.classes "CLASSES"
where CLASSES, on one line, are
road,sidewalk,building,wall,fence,pole,traffic light,traffic sign,vegetation,terrain,sky,
person,rider,car,truck,bus,train,motorcycle,bicycle
"""

    def image(self, place: Place) -> str:
        """Path of an image."""
        return f"leftImg8bit/{_name(place)}_leftImg8bit.png"

    def target(self, place: Place) -> str | None:
        """Path of the image of training ids."""
        return None if place.split == "test" else f"gtFine/{_name(place)}_gtFine_labelTrainIds.png"

    def others(self, place: Place) -> tuple[str, ...]:
        """Paths of the files with ids, instances, colors and polygons."""
        return tuple(f"gtFine/{_name(place)}_gtFine_{kind}" for kind in _KINDS)

    def write(self, scene: Scene, place: Place, root: Path) -> Record:
        """Write an image and its labels."""
        save_image(root / self.image(place), scene.image)
        ids = _table("id")[scene.labels]
        instances = _instances(scene, ids)
        target = self.target(place)
        if target is None:
            ids, instances = np.zeros_like(ids), np.zeros_like(instances)
        else:
            save_image(root / target, _table("train_id")[scene.labels])
        paths = [root / path for path in self.others(place)]
        save_image(paths[0], ids)
        save_image(paths[1], instances)
        save_image(paths[2], _colors(ids))
        write_text(paths[3], one_line_json(_polygons(instances)))
        return {}

    def list_texts(self, rows: Sequence[tuple[Place, Record]]) -> dict[str, str]:
        """Empty: Cityscapes needs no list files."""
        del rows
        return {}


def _name(place: Place) -> str:
    city = _CITIES[place.split]
    return f"{place.split}/{city}/{city}_{place.number:06d}_000019"


def _table(field: str) -> NDArray[np.uint8]:
    ids = {name: getattr(label, field) for name, label in _LABELS.items()}
    return class_ids(ids, void=getattr(_UNLABELED, field))


def _instances(scene: Scene, ids: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """The label id of each pixel, or for countable things 1000 times the id plus the instance number."""
    counted = np.isin(ids, [_LABELS[name].id for name in _COUNTED])
    numbered = ids.astype(np.int32) * _INSTANCES_OF_A_CLASS + instance_numbers(scene, _COUNTED)
    return np.where(counted, numbered, ids).astype(np.uint16)


def _colors(ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    table = np.zeros((256, 4), dtype=np.uint8)
    table[:, 3] = 255
    for label in _LABELS.values():
        table[label.id, :3] = label.color
    return table[ids]


def _polygons(instances: NDArray[np.uint16]) -> dict[str, Any]:
    names = {label.id: label.name for label in _LABELS.values()}
    height, width = instances.shape
    objects = [
        {"label": names[number // _INSTANCES_OF_A_CLASS or number], "polygon": polygon}
        for number, polygon in painted_outlines(instances)
        if number != _UNLABELED.id
    ]
    return {"imgHeight": height, "imgWidth": width, "objects": objects}
