"""Small data sets of scenes, written once, and what is true of their images."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from metaprompts.synthetic import Scene, generate_scene
from metaprompts.synthetic.layouts import write_scenes

KINDS = {
    "nyu": "room",
    "kitti": "street",
    "cityscapes": "street",
    "mapillary": "street",
    "ade20k": None,
    "coco": None,
    "plain": None,
}
# Images of KITTI's selection are cut to multiples of 32; streets have one size, so that their labels can be compared.
SIZES = {"nyu": (96, 128), "kitti": (100, 130), "cityscapes": (96, 128), "mapillary": (96, 128)}
COUNTS = {"coco": 18}
TRAIN_SEED, VAL_SEED = 1_000_000, 2_000_000


@dataclass(frozen=True)
class Written:
    folder: Path
    name: str

    def scene(self, split: str, number: int) -> Scene:
        height, width = SIZES.get(self.name, (80, 112))
        return _scene({"train": TRAIN_SEED, "val": VAL_SEED}[split] + number, height, width, KINDS[self.name])


@cache
def _scene(seed, height, width, kind):
    return generate_scene(seed, height, width, kind)


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Write a layout by name.

    6 scenes, of which the last is for validation (Cityscapes: the last but one); of COCO, where not everyone shows
    people, 18 scenes, 4 of them for validation.
    """

    @cache
    def write(name: str) -> Written:
        folder = tmp_path_factory.mktemp(name) / "scenes"
        height, width = SIZES.get(name, (80, 112))
        write_scenes(name, COUNTS.get(name, 6), folder, height=height, width=width)
        return Written(folder, name)

    return write


@pytest.fixture
def shapes_of():
    """The kinds of a folder's images, whatever their numbers: path without digits -> mode."""

    def list_shapes(folder: Path, replaced: str = r"\d", by: str = "0") -> dict[str, str]:
        paths = [path for path in folder.rglob("*") if path.suffix in (".png", ".jpg")]
        return {re.sub(replaced, by, path.relative_to(folder).as_posix()): Image.open(path).mode for path in paths}

    return list_shapes
