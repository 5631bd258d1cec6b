"""Small data sets of scenes in the official layouts, and files to break them with."""

import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metaprompts.synthetic.layouts import write_scenes


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """Write a layout by name: 6 scenes, of which 1 is for validation (Cityscapes: 4, 1 and 1 for test)."""

    @cache
    def write(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name) / "scenes"
        write_scenes(name, 6, folder, height=64, width=96)
        return folder

    return write


@pytest.fixture
def copy(scenes, tmp_path):
    """Copy a layout, to be broken."""
    return lambda name: Path(shutil.copytree(scenes(name), tmp_path / name))


@pytest.fixture
def formats(shared_data):
    return shared_data / "formats"


@pytest.fixture
def spoil():
    """Write something wrong instead of a file's pixels."""

    def write(path: Path, kind: str) -> None:
        height, width = np.array(Image.open(path)).shape[:2]
        pixels = {
            "three channels": np.zeros((height, width, 3), np.uint8),
            "8 bits": np.zeros((height, width), np.uint8),
            "out of range": np.full((height, width), 200, np.uint8),
            "other size": np.zeros((height + 1, width), np.uint8),
        }[kind]
        Image.fromarray(pixels).save(path)

    return write
