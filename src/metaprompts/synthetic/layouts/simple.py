"""One folder for all tasks, in the formats of this package's own readers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from metaprompts.data.io.normal_files import write_normals
from metaprompts.synthetic import CLASSES, Scene
from metaprompts.synthetic.layouts.base import Kind, Layout, Place, Record, one_line_json
from metaprompts.synthetic.layouts.coco import annotations, person_records
from metaprompts.synthetic.layouts.pixels import save_image, stored_depth

_UNITS_PER_METER = 256
_REACH_M = 255.0
_SPLITS = ("train", "val")


@dataclass(frozen=True, kw_only=True)
class Plain(Layout):
    """Rooms and streets with classes, depth, surface normals and people."""

    kind: ClassVar[Kind | None] = None
    size: ClassVar[tuple[int, int]] = (128, 192)
    has_people: ClassVar[bool] = True
    lists: ClassVar[tuple[str, ...]] = (
        *(f"depth_{split}.txt" for split in _SPLITS),
        *(f"normals_{split}.txt" for split in _SPLITS),
        *(f"annotations/person_keypoints_{split}.json" for split in _SPLITS),
        "classes.txt",
    )
    about: ClassVar[str] = """\
images/                                images
labels/                                masks; the value is the line in classes.txt, from 0
depth/                                 16-bit, meters x 256, 0 = none
normals/                               16-bit RGB, surface normals: x right, y up, z toward the camera, each from -1 (0)
                                       to 1 (65535); gray = none
train.txt, val.txt                     image and mask
depth_train.txt, depth_val.txt         image and depth
normals_train.txt, normals_val.txt     image and normals
annotations/person_keypoints_*.json    people, as in COCO

If no person is visible in a split, its last scene has a different seed.

    metaprompts train scenes_segmentation --data.root DIR
    metaprompts train scenes_depth --data.root DIR
    metaprompts train scenes_normals --data.root DIR
    metaprompts train scenes_pose --data.root DIR
"""

    def image(self, place: Place) -> str:
        """Path of an image."""
        return f"images/{_name(place)}"

    def target(self, place: Place) -> str:
        """Path of an image's mask."""
        return f"labels/{_name(place)}"

    def others(self, place: Place) -> tuple[str, ...]:
        """Paths of an image's depth and normals."""
        return f"depth/{_name(place)}", f"normals/{_name(place)}"

    def write(self, scene: Scene, place: Place, root: Path) -> Record:
        """Write image, mask, depth and normals; people go into the annotation files."""
        save_image(root / self.image(place), scene.image)
        save_image(root / self.target(place), scene.labels)
        depth = stored_depth(scene.depth_m, depth_scale=_UNITS_PER_METER, reach_m=_REACH_M)
        depth_path, normals_path = self.others(place)
        save_image(root / depth_path, depth)
        write_normals(root / normals_path, scene.normals)
        return person_records(scene, place)

    def list_texts(self, rows: Sequence[tuple[Place, Record]]) -> dict[str, str]:
        """The lists of depth and normals, the annotations, and the names of the classes."""
        texts = {"classes.txt": "".join(f"{name}\n" for name in CLASSES)}
        for split in _SPLITS:
            of_split = [(place, record) for place, record in rows if place.split == split]
            for number, name in enumerate(("depth", "normals")):
                pairs = [f"{self.image(place)} {self.others(place)[number]}\n" for place, _ in of_split]
                texts[f"{name}_{split}.txt"] = "".join(pairs)
            texts[f"annotations/person_keypoints_{split}.json"] = one_line_json(annotations(of_split, self.image))
        return texts


def _name(place: Place) -> str:
    return f"{place.index + 1:06d}.png"
