"""ADE20K as the scene parsing challenge published it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from metaprompts.data.class_names import ADE20K
from metaprompts.synthetic import CLASSES, Scene
from metaprompts.synthetic.layouts.base import Kind, Layout, Place, Record
from metaprompts.synthetic.layouts.pixels import class_ids, save_image

_ROOT = "ADEChallengeData2016"
_FOLDERS = {"train": "training", "val": "validation"}
_OTHER_NAMES = {"pavement": "sidewalk", "sign": "signboard"}
_IDS = class_ids({name: ADE20K.index(_OTHER_NAMES.get(name, name)) + 1 for name in CLASSES}, void=0)
_CATEGORIES = {"room": "living_room", "street": "street"}


@dataclass(frozen=True, kw_only=True)
class Ade20k(Layout):
    """Rooms and streets; the data set has 150 classes, and scenes contain 17 of them."""

    kind: ClassVar[Kind | None] = None
    size: ClassVar[tuple[int, int]] = (512, 683)
    lists: ClassVar[tuple[str, ...]] = (f"{_ROOT}/sceneCategories.txt", f"{_ROOT}/objectInfo150.txt")
    about: ClassVar[str] = """\
ADEChallengeData2016/images/<split>/         images
ADEChallengeData2016/annotations/<split>/    masks: 0 = other, 1 to 150 the classes
ADEChallengeData2016/sceneCategories.txt     living_room or street
ADEChallengeData2016/objectInfo150.txt       the classes, with their shares and counts in this data set

    metaprompts train micro_segmentation --data.root DIR --data.reduce_zero_label true \\
      --data.ignored 255 --task.classes "CLASSES"
where CLASSES are the 150 names in objectInfo150.txt, separated by commas
"""

    def image(self, place: Place) -> str:
        """Path of an image."""
        return f"{_ROOT}/images/{_FOLDERS[place.split]}/{_stem(place)}.jpg"

    def target(self, place: Place) -> str:
        """Path of an image's mask."""
        return f"{_ROOT}/annotations/{_FOLDERS[place.split]}/{_stem(place)}.png"

    def write(self, scene: Scene, place: Place, root: Path) -> Record:
        """Write an image and its mask."""
        mask = _IDS[scene.labels]
        save_image(root / self.image(place), scene.image)
        save_image(root / self.target(place), mask)
        ids, pixels = np.unique(mask, return_counts=True)
        return {"category": _CATEGORIES[scene.kind], "ids": ids.tolist(), "pixels": pixels.tolist()}

    def list_texts(self, rows: Sequence[tuple[Place, Record]]) -> dict[str, str]:
        """The texts that list the kind of each scene, and the classes."""
        scenes = "".join(f"{_stem(place)} {record['category']}\n" for place, record in rows)
        return dict(zip(self.lists, (scenes, _object_info(rows)), strict=True))


def _stem(place: Place) -> str:
    return f"ADE_{place.split}_{place.number + 1:08d}"


def _object_info(rows: Sequence[tuple[Place, Record]]) -> str:
    pixels: Counter[int] = Counter()
    images: Counter[tuple[str, int]] = Counter()
    for place, record in rows:
        pixels.update(dict(zip(record["ids"], record["pixels"], strict=True)))
        images.update((place.split, number) for number in record["ids"])
    lines = ["Idx\tRatio\tTrain\tVal\tName"]
    for number, name in enumerate(ADE20K, start=1):
        share = pixels[number] / pixels.total()
        lines.append(f"{number}\t{share:.4f}\t{images['train', number]}\t{images['val', number]}\t{name}")
    return "\n".join(lines) + "\n"
