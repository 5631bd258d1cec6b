"""KITTI: raw images, annotated depth and the depth selection."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from metaprompts.errors import InputError
from metaprompts.synthetic import Scene
from metaprompts.synthetic.layouts.base import Kind, Layout, Place, Record
from metaprompts.synthetic.layouts.pixels import save_image, stored_depth
from metaprompts.utils.files import write_text

_UNITS_PER_METER = 256
_REACH_M = 80.0
_DATE = "2011_09_26"
_DRIVES = {"train": f"{_DATE}_drive_0001_sync", "val": f"{_DATE}_drive_0002_sync"}
# The real data set has no depth for the first frames of a drive.
_FIRST_FRAME = 5
_UNMEASURED_EVERY = 10
_SELECTION = "depth_selection/val_selection_cropped"


@dataclass(frozen=True, kw_only=True)
class Kitti(Layout):
    """Streets with sparse depth in 1/256 meters.

    Attributes:
        density: fraction of pixels that are measured, among those below the upper third whose surface is within 80 m
    """

    density: float = 0.3

    kind: ClassVar[Kind | None] = "street"
    size: ClassVar[tuple[int, int]] = (375, 1242)
    lists: ClassVar[tuple[str, ...]] = (
        "eigen_train_files_with_gt.txt",
        "eigen_test_files_with_gt.txt",
        "train_list.txt",
        "test_list.txt",
    )
    about: ClassVar[str] = """\
raw_data/<date>/<drive>/image_02/data/    images
data_depth_annotated/<split>/<drive>/     depth (16-bit PNG, meters x 256, 0 = none)
depth_selection/val_selection_cropped/    validation again, cut to multiples of 32, with intrinsics
*_list.txt                                image and depth, relative to this folder
eigen_*_with_gt.txt                       image relative to raw_data/, depth relative to data_depth_annotated/ (None
for every tenth test image, which has no depth), focal length in pixels

--density sets how sparse depth is: each pixel below the upper third is measured with this probability, unless it is
sky or farther than 80 m. Each split has one drive, with only the left color camera, and focal lengths differ.

    metaprompts train micro_depth --data.root DIR --data.depth_scale 256 --task.max_depth_m 80
"""

    def __post_init__(self) -> None:
        if not 0 < self.density <= 1:
            raise InputError(f"density is {self.density}; expected more than 0 and at most 1")

    def image(self, place: Place) -> str:
        """Path of an image."""
        return f"raw_data/{_raw(place)}"

    def target(self, place: Place) -> str | None:
        """Path of an image's depth."""
        return f"data_depth_annotated/{_annotated(place)}" if _is_measured(place) else None

    def others(self, place: Place) -> tuple[str, ...]:
        """Paths of image, depth and intrinsics in the selection."""
        if place.split == "train" or not _is_measured(place):
            return ()
        drive, frame = _DRIVES[place.split], f"{_frame(place)}_image_02"
        return (
            f"{_SELECTION}/image/{drive}_image_{frame}.png",
            f"{_SELECTION}/groundtruth_depth/{drive}_groundtruth_depth_{frame}.png",
            f"{_SELECTION}/intrinsics/{drive}_image_{frame}.txt",
        )

    def write(self, scene: Scene, place: Place, root: Path) -> Record:
        """Write an image, its depth, and its files in the selection."""
        depth = self._measured(scene)
        save_image(root / self.image(place), scene.image)
        target = self.target(place)
        if target is not None:
            save_image(root / target, depth)
        if others := self.others(place):
            _write_selection(scene, depth, *(root / path for path in others))
        return {"focal_px": float(scene.intrinsics[0, 0])}

    def _measured(self, scene: Scene) -> NDArray[np.uint16]:
        depth = stored_depth(scene.depth_m, depth_scale=_UNITS_PER_METER, reach_m=_REACH_M)
        hit = np.random.Generator(np.random.PCG64(scene.seed)).random(depth.shape) < self.density
        hit[: depth.shape[0] // 3] = False
        return np.where(hit, depth, np.uint16(0))

    def list_texts(self, rows: Sequence[tuple[Place, Record]]) -> dict[str, str]:
        """The lists, with two and with three columns."""
        texts = dict.fromkeys(self.lists, "")
        for place, record in rows:
            split = "train" if place.split == "train" else "test"
            target = self.target(place)
            if target is not None:
                texts[f"{split}_list.txt"] += f"/{self.image(place)} /{target}\n"
            depth = "None" if target is None else _annotated(place)
            texts[f"eigen_{split}_files_with_gt.txt"] += f"{_raw(place)} {depth} {record['focal_px']:.4f}\n"
        return texts


def _frame(place: Place) -> str:
    return f"{_FIRST_FRAME + place.number:010d}"


def _raw(place: Place) -> str:
    return f"{_DATE}/{_DRIVES[place.split]}/image_02/data/{_frame(place)}.png"


def _annotated(place: Place) -> str:
    return f"{place.split}/{_DRIVES[place.split]}/proj_depth/groundtruth/image_02/{_frame(place)}.png"


def _is_measured(place: Place) -> bool:
    return place.split == "train" or (place.number + 1) % _UNMEASURED_EVERY != 0


def _write_selection(scene: Scene, depth: NDArray[np.uint16], image: Path, target: Path, intrinsics: Path) -> None:
    # The benchmark's crop, 352 x 1216 out of 375 x 1242, is at the bottom center.
    height, width = (side // 32 * 32 for side in depth.shape)
    top, left = depth.shape[0] - height, (depth.shape[1] - width) // 2
    part = np.s_[top : top + height, left : left + width]
    save_image(image, scene.image[part])
    save_image(target, depth[part])
    matrix = scene.intrinsics.copy()
    matrix[:2, 2] -= (left, top)
    write_text(intrinsics, " ".join(f"{value:.6f}" for value in matrix.ravel()) + "\n")
