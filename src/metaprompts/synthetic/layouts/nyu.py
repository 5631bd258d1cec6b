"""NYU Depth v2 as depth estimation code reads it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from metaprompts.synthetic import Scene
from metaprompts.synthetic.layouts.base import Kind, Layout, Place, Record
from metaprompts.synthetic.layouts.pixels import save_image, stored_depth

_UNITS_PER_METER = 1000
_REACH_M = 65.0
_FOLDERS = {"train": "sync", "val": "official_splits/test"}
# The official test images are numbered by their position among all labeled images.
_FIRST_TEST = 45


@dataclass(frozen=True, kw_only=True)
class Nyu(Layout):
    """Rooms with depth in millimeters."""

    kind: ClassVar[Kind | None] = "room"
    size: ClassVar[tuple[int, int]] = (480, 640)
    lists: ClassVar[tuple[str, ...]] = (
        "nyudepthv2_train_files_with_gt.txt",
        "nyudepthv2_test_files_with_gt.txt",
        "train_list.txt",
        "test_list.txt",
    )
    about: ClassVar[str] = """\
sync/<scene>/               training: rgb_*.jpg, sync_depth_*.png (16-bit, millimeters, 0 = none)
official_splits/test/       validation, the same
*_list.txt                  image and depth, relative to sync/ and official_splits/test/
nyudepthv2_*_with_gt.txt    the same with the focal length in pixels

Each training folder has one image, the depth has no holes, and focal lengths differ. nyu_depth_v2_labeled.mat is not
generated.

    metaprompts train micro_depth --data.root DIR
"""

    def image(self, place: Place) -> str:
        """Path of an image."""
        return f"{_FOLDERS[place.split]}/{_name(place, 'rgb')}.jpg"

    def target(self, place: Place) -> str:
        """Path of an image's depth."""
        return f"{_FOLDERS[place.split]}/{_name(place, 'sync_depth')}.png"

    def write(self, scene: Scene, place: Place, root: Path) -> Record:
        """Write an image and its depth."""
        save_image(root / self.image(place), scene.image)
        depth = stored_depth(scene.depth_m, depth_scale=_UNITS_PER_METER, reach_m=_REACH_M)
        save_image(root / self.target(place), depth)
        return {"focal_px": float(scene.intrinsics[0, 0])}

    def list_texts(self, rows: Sequence[tuple[Place, Record]]) -> dict[str, str]:
        """The lists, with two and with three columns."""
        texts = dict.fromkeys(self.lists, "")
        for place, record in rows:
            split = "train" if place.split == "train" else "test"
            # Of the published lists, only the three-column test list has paths that begin without a slash.
            names = [f"{_name(place, 'rgb')}.jpg", f"{_name(place, 'sync_depth')}.png"]
            rooted = [f"/{name}" for name in names]
            texts[f"{split}_list.txt"] += " ".join(rooted) + "\n"
            columns = [*(rooted if split == "train" else names), f"{record['focal_px']:.4f}"]
            texts[f"nyudepthv2_{split}_files_with_gt.txt"] += " ".join(columns) + "\n"
        return texts


def _name(place: Place, what: str) -> str:
    if place.split == "train":
        return f"living_room_{place.number:04d}/{what}_00000"
    return f"living_room/{what}_{_FIRST_TEST + place.number:05d}"
