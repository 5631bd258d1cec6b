import json
import shutil

import numpy as np
import pytest
from PIL import Image

from metaprompts.data.layouts.mapillary import Mapillary
from metaprompts.errors import InputError

# Vistas 1.2 -> the 19 classes of Cityscapes in their order; all other ids are ignored.
TABLE = "[13,24,41] [2,15] [17] [6] [3] [45,47] [48] [50] [30] [29] [27] [19] [20,21,22] [55] [61] [54] [58] [57] [52]"


def mapped(ids):
    found = np.full_like(ids, 255)
    for place, group in enumerate(TABLE.split()):
        found[np.isin(ids, json.loads(group))] = place
    return found


def stored(root, sample, version="v1.2"):
    name = sample.path.rpartition("/")[2].replace(".jpg", ".png")
    return np.array(Image.open(next(root.rglob(f"{version}/labels/{name}"))))


@pytest.fixture
def every_label(copy):
    """A data set whose validation mask holds every label, with a way to write it for each version."""

    def write(version, count):
        root = copy("mapillary")
        mask = next((root / f"validation/{version}/labels").glob("*.png"))
        ids = (np.arange(64 * 96) % count).reshape(64, 96).astype(np.uint8)
        Image.fromarray(ids).save(mask)
        return root, ids

    return write


@pytest.mark.parametrize(("version", "classes", "values"), [("v1.2", 66, {17, 44, 45}), ("v2.0", 124, {27, 84, 85})])
def test_genuine_sample(formats, version, classes, values):
    (sample,) = Mapillary(formats / "mapillary_vistas", "val", classes=classes, version=version)
    assert set(np.unique(sample.labels)) == values
    assert np.array_equal(sample.labels, stored(formats / "mapillary_vistas", sample, version))


def test_genuine_sample_as_cityscapes(formats):
    (sample,) = Mapillary(formats / "mapillary_vistas", "val", classes=19, as_cityscapes=True)
    assert set(np.unique(sample.labels)) == {2, 5, 255}
    assert np.array_equal(sample.labels, mapped(stored(formats / "mapillary_vistas", sample)))


@pytest.mark.parametrize(("split", "count"), [("train", 5), ("val", 1)])
def test_scenes(scenes, split, count):
    root = scenes("mapillary")
    for version, classes in (("v1.2", 66), ("v2.0", 124)):
        dataset = Mapillary(root, split, classes=classes, version=version)
        assert len(dataset) == count
        assert all(np.array_equal(sample.labels, stored(root, sample, version)) for sample in dataset)
    dataset = Mapillary(root, split, classes=19, as_cityscapes=True)
    assert all(np.array_equal(sample.labels, mapped(stored(root, sample))) for sample in dataset)


def test_every_label_as_cityscapes(every_label):
    root, ids = every_label("v1.2", 66)
    (sample,) = Mapillary(root, "val", classes=19, as_cityscapes=True)
    assert np.array_equal(sample.labels, mapped(ids))


@pytest.mark.parametrize(("version", "labels", "evaluated"), [("v1.2", 66, 65), ("v2.0", 124, 116)])
def test_evaluated_labels_in_their_order(every_label, version, labels, evaluated):
    """Which labels are evaluated, the data set's own config file says."""
    root, ids = every_label(version, labels)
    flags = [label["evaluate"] for label in json.loads((root / f"config_{version}.json").read_text())["labels"]]
    expected = np.where(flags, np.cumsum(flags) - 1, 255)
    (sample,) = Mapillary(root, "val", classes=evaluated, version=version)
    assert sum(flags) == evaluated
    assert np.array_equal(sample.labels, expected[ids])


def test_release_without_a_folder_for_the_version(copy):
    root = copy("mapillary")
    before = [sample.labels for sample in Mapillary(root, "train", classes=66)]
    shutil.move(root / "training/v1.2/labels", root / "training/labels")
    assert np.array_equal([sample.labels for sample in Mapillary(root, "train", classes=66)], before)
    shutil.rmtree(root / "training/v2.0")
    with pytest.raises(InputError, match=r"training/v2.0/labels does not exist; expected the masks of version v2.0"):
        Mapillary(root, "train", classes=124, version="v2.0")


@pytest.mark.parametrize("folder", ["validation/images", "validation/v1.2/labels"])
def test_missing_split(copy, folder):
    root = copy("mapillary")
    shutil.rmtree(root / folder)
    with pytest.raises(InputError, match=f"{folder} does not exist.*split val"):
        Mapillary(root, "val", classes=66)


def test_unmatched_pair(copy):
    root = copy("mapillary")
    next(root.glob("training/images/*.jpg")).unlink()
    with pytest.raises(InputError, match=r"1 file of .* without a counterpart of the same name: \S+\.png"):
        Mapillary(root, "train", classes=66)


@pytest.mark.parametrize("classes", [19, 66])
@pytest.mark.parametrize(("kind", "words"), [("out of range", "holds 200;"), ("three channels", "is RGB.*one channel")])
def test_bad_mask(copy, spoil, kind, words, classes):
    root = copy("mapillary")
    mask = next(root.glob("validation/v1.2/labels/*.png"))
    spoil(mask, kind)
    with pytest.raises(InputError, match=f"{mask.name} {words}"):
        Mapillary(root, "val", classes=classes, as_cityscapes=classes == 19)[0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"classes": 66, "as_cityscapes": True}, "has 66 classes; expected the 19 of Cityscapes"),
        ({"classes": 19}, "has 19 classes; Mapillary Vistas v1.2 has 66 labels, and 65 of them are evaluated"),
        ({"classes": 66, "version": "v2.0"}, "has 66 classes; Mapillary Vistas v2.0 has 124 labels, and 116"),
    ],
)
def test_other_number_of_classes(scenes, settings, words):
    with pytest.raises(InputError, match=words):
        Mapillary(scenes("mapillary"), "val", **settings)
