import pickle
import re

import numpy as np
import pytest
from PIL import Image

from metaprompts.data.layouts.ade20k import Ade20k
from metaprompts.errors import InputError


def stored(sample):
    path = sample.path.replace("/images/", "/annotations/").replace(".jpg", ".png")
    return np.array(Image.open(path)).astype(int)


@pytest.mark.parametrize(("split", "count"), [("train", 2), ("val", 1)])
def test_genuine_sample(formats, split, count):
    dataset = Ade20k(formats / "ade20k", split)
    assert len(dataset) == count
    for sample in dataset:
        assert (sample.labels != 255).mean() > 0.8
        assert np.array_equal(sample.labels, (stored(sample) - 1) % 256)


def test_root_may_be_the_inner_folder(formats):
    inner = Ade20k(formats / "ade20k/ADEChallengeData2016", "train")
    assert [sample.path for sample in inner] == [sample.path for sample in Ade20k(formats / "ade20k", "train")]


@pytest.mark.parametrize(("split", "count"), [("train", 5), ("val", 1)])
def test_scenes(scenes, split, count):
    dataset = pickle.loads(pickle.dumps(Ade20k(scenes("ade20k"), split)))
    assert len(dataset) == count
    assert all(np.array_equal(sample.labels, (stored(sample) - 1) % 256) for sample in dataset)


@pytest.mark.parametrize("folder", ["images/validation", "annotations/validation"])
def test_missing_split(copy, folder):
    root = copy("ade20k") / "ADEChallengeData2016"
    (root / folder).rename(root / "elsewhere")
    with pytest.raises(InputError, match=rf"{re.escape(str(root / folder))} does not exist.*split val"):
        Ade20k(root, "val")


def test_empty_root_names_the_official_folder(tmp_path):
    with pytest.raises(InputError, match=r"ADEChallengeData2016/images/training does not exist"):
        Ade20k(tmp_path, "train")


def test_unmatched_pair(copy):
    root = copy("ade20k")
    next(root.rglob("annotations/training/*.png")).unlink()
    with pytest.raises(InputError, match=r"1 file of .*training.* without a counterpart.*ADE_train_\d+\.jpg"):
        Ade20k(root, "train")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("out of range", "holds 200; expected classes 1 to 150"),
        ("three channels", "is RGB 64x96; expected one channel"),
    ],
)
def test_bad_mask(copy, spoil, kind, words):
    root = copy("ade20k")
    mask = next(root.rglob("annotations/validation/*.png"))
    spoil(mask, kind)
    with pytest.raises(InputError, match=f"{mask.name} {words}"):
        Ade20k(root, "val")[0]


def test_other_number_of_classes(scenes):
    with pytest.raises(InputError, match="classes has 17 classes; ADE20K has 150"):
        Ade20k(scenes("ade20k"), "train", classes=17)
