import re

import numpy as np
import pytest
from PIL import Image

from metaprompts.data.config.depth import DepthData
from metaprompts.errors import InputError
from open_split import open_split

SIZE = (16, 24)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def root(tmp_path):
    """Two images in subfolders, 5 m everywhere; the first row is class 13, the second class 2."""
    classes = np.zeros(SIZE, np.uint8)
    classes[0], classes[1] = 13, 2
    for name in ("a/0", "b/0"):
        save(tmp_path / f"images/{name}.jpg", np.full((*SIZE, 3), 100, np.uint8))
        save(tmp_path / f"depth/{name}.png", np.full(SIZE, 5000, np.uint16))
        save(tmp_path / f"classes/{name}.png", classes)
    return tmp_path


def opened(root, **settings):
    names = {"train": "images", "train_labels": "depth", "val": "images", "val_labels": "depth"}
    return open_split(DepthData(root=root, **(names | settings)), "train")


@pytest.mark.parametrize(("sky_class", "rows"), [(13, [0]), (None, [0, 1]), (2, [1])])
def test_sky_is_infinitely_far(root, sky_class, rows):
    """A mask of the sky, or the number of its class; everything else stays as measured."""
    sample = opened(root, sky="classes", sky_class=sky_class)[1]
    expected = np.full(SIZE, 5.0, np.float32)
    expected[rows] = np.inf
    np.testing.assert_array_equal(sample.depth_m, expected)


def test_masks_count_among_a_samples_files(root):
    samples = opened(root, sky="classes")
    assert root / "classes/a/0.png" in samples.files(0)


def test_masks_that_two_images_would_share_are_refused(root):
    """Of a/0.jpg and b/0.jpg without masks in subfolders it is unclear whose mask 0.png is."""
    save(root / "flat/0.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(InputError, match=r"a/0\.jpg and .*b/0\.jpg have the same sky mask"):
        opened(root, sky="flat")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sky": "nowhere"}, "nowhere does not exist"),
        ({"sky": "classes/a"}, "has no sky mask|same sky mask"),
        ({"sky_class": 13}, "data.sky is none: set data.sky"),
    ],
)
def test_wrong_settings_are_one_line(root, settings, message):
    with pytest.raises(InputError, match=message):
        opened(root, **settings)


def test_masks_of_another_size_are_refused(root):
    save(root / "classes/a/0.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(InputError, match=re.escape("classes/a/0.png is 8x8")):
        opened(root, sky="classes")[0]
