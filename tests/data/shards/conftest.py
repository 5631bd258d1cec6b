import shutil

import pytest

from metaprompts.data.config.depth import DepthData
from metaprompts.synthetic.layouts import write_scenes


@pytest.fixture(scope="session")
def roots(tmp_path_factory):
    """A folder with a folder of each layout."""
    folder = tmp_path_factory.mktemp("layouts")
    for name in ("ade20k", "cityscapes", "mapillary", "kitti"):
        write_scenes(name, 3, folder / name, height=64, width=96)
    write_scenes("nyu", 7, folder / "nyu", height=64, width=96, val_count=1)
    write_scenes("coco", 12, folder / "coco", height=64, width=96, val_count=6)
    return folder


@pytest.fixture
def nyu(roots, tmp_path):
    """The data section of a copy that may be spoiled: six training images and one for validation."""
    return DepthData(root=shutil.copytree(roots / "nyu", tmp_path / "nyu"), layout="nyu")
