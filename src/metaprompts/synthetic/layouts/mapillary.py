"""Mapillary Vistas, release 2.0, which holds the labels of both versions."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metaprompts.synthetic import Scene
from metaprompts.synthetic.layouts.base import Kind, Layout, Place, Record
from metaprompts.synthetic.layouts.pixels import class_ids, instance_numbers, save_image

_FOLDERS = {"train": "training", "val": "validation"}
_VERSIONS = ("v1.2", "v2.0")
_NAMES = {
    "road": "construction--flat--road",
    "pavement": "construction--flat--sidewalk",
    "building": "construction--structure--building",
    "pole": "object--support--pole",
    "sign": "object--traffic-sign--front",
    "tree": "nature--vegetation",
    "sky": "nature--sky",
    "person": "human--person",
    "car": "object--vehicle--car",
}
"""Scene class -> label of Vistas 1.2; no other class occurs in streets."""

_NEW_NAMES = {"person": "human--person--individual"}
_VOID = "void--unlabeled"
_COUNTED = ("person", "car", "pole", "sign")
_INSTANCES_OF_A_CLASS = 256


@dataclass(frozen=True, kw_only=True)
class Mapillary(Layout):
    """Streets with the 66 labels of version 1.2 and the 124 of version 2.0."""

    kind: ClassVar[Kind | None] = "street"
    size: ClassVar[tuple[int, int]] = (480, 640)
    lists: ClassVar[tuple[str, ...]] = tuple(f"config_{version}.json" for version in _VERSIONS)
    about: ClassVar[str] = """\
<split>/images/               images
<split>/v1.2/labels/          masks of the 66 labels of config_v1.2.json, with its colors as palette
<split>/v1.2/instances/       16-bit: 256 x label + number of the instance
<split>/v2.0/                 the same for the 124 labels of config_v2.0.json
train.txt, val.txt            images and masks of version 1.2

Panoptic files and polygons are not generated.

    metaprompts train micro_segmentation --data.root DIR --data.ignored 65 --task.classes "CLASSES"
where CLASSES are the first 65 names in config_v1.2.json, separated by commas
"""

    def image(self, place: Place) -> str:
        """Path of an image."""
        return f"{_FOLDERS[place.split]}/images/{_key(place)}.jpg"

    def target(self, place: Place) -> str:
        """Path of an image's mask with labels of version 1.2."""
        return _labels(place, "v1.2", "labels")

    def others(self, place: Place) -> tuple[str, ...]:
        """Paths of the instances, and of the mask with labels of version 2.0."""
        return (
            _labels(place, "v1.2", "instances"),
            _labels(place, "v2.0", "labels"),
            _labels(place, "v2.0", "instances"),
        )

    def write(self, scene: Scene, place: Place, root: Path) -> Record:
        """Write an image with labels and instances of both versions."""
        save_image(root / self.image(place), scene.image)
        numbers = instance_numbers(scene, _COUNTED)
        for version in _VERSIONS:
            ids = label_ids(version)[scene.labels]
            save_image(root / _labels(place, version, "labels"), _with_palette(ids, version))
            instances = ids.astype(np.uint16) * np.uint16(_INSTANCES_OF_A_CLASS) + numbers.astype(np.uint16)
            save_image(root / _labels(place, version, "instances"), instances)
        return {}

    def list_texts(self, rows: Sequence[tuple[Place, Record]]) -> dict[str, str]:
        """The config files with the labels of both versions."""
        del rows
        return {f"config_{version}.json": json.dumps(_config(version), indent=2) + "\n" for version in _VERSIONS}


def label_ids(version: str) -> NDArray[np.uint8]:
    """(17,), the label id of each scene class in "v1.2" or "v2.0"."""
    names = [row["name"] for row in _rows(version)]
    own = {**_NAMES, **(_NEW_NAMES if version == "v2.0" else {})}
    return class_ids({name: names.index(label) for name, label in own.items()}, void=names.index(_VOID))


def _key(place: Place) -> str:
    # Real keys also have 22 letters and digits.
    return f"scene{place.seed:017d}"


def _labels(place: Place, version: str, kind: str) -> str:
    return f"{_FOLDERS[place.split]}/{version}/{kind}/{_key(place)}.png"


@cache
def _rows(version: str) -> tuple[dict[str, str], ...]:
    file = resources.files("metaprompts") / "synthetic" / "layouts" / f"vistas_{version}.csv"
    return tuple(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))


def _color(row: dict[str, str]) -> list[int]:
    return [int(row[part]) for part in ("red", "green", "blue")]


def _with_palette(ids: NDArray[np.uint8], version: str) -> Image.Image:
    image = Image.fromarray(ids)
    colors = [value for row in _rows(version) for value in _color(row)]
    image.putpalette(colors + [0] * (3 * 256 - len(colors)))
    return image


def _config(version: str) -> dict[str, Any]:
    labels = [
        {
            "color": _color(row),
            "instances": row["instances"] == "yes",
            "readable": row["readable"],
            "name": row["name"],
            "evaluate": row["evaluate"] == "yes",
        }
        for row in _rows(version)
    ]
    return {
        "labels": labels,
        "version": version.removeprefix("v"),
        "mapping": "public" if version == "v1.2" else "mvd20",
        "folder_structure": "{split}/{content}/{key:.{22}}.{ext}",
    }
