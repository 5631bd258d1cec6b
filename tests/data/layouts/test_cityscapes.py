import pickle
import shutil

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import id2label
from PIL import Image

from metaprompts.data.layouts.cityscapes import CLASS_OF_ID, Cityscapes
from metaprompts.errors import InputError


def official(ids):
    """Ids to classes, as the official scripts have it."""
    classes = {number: label.trainId for number, label in id2label.items() if number >= 0}
    return np.vectorize(classes.get)(ids)


def masks(root, kind):
    return sorted(root.rglob(f"*_{kind}.png"))


def keep_only(root, kind, other):
    for path in masks(root, other):
        path.unlink()
    assert masks(root, kind)


def make_extra(root, folder, name):
    """Turn the training split into train_extra, with masks of another name made from the ids."""
    (root / "leftImg8bit/train").rename(root / "leftImg8bit/train_extra")
    for path in masks(root / "gtFine/train", "labelIds"):
        target = root / folder / path.parent.name / path.name.replace("_gtFine_labelIds", name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def test_table_is_the_official_one():
    expected = {number: label.trainId for number, label in id2label.items() if 0 <= label.trainId < 255}
    assert expected == CLASS_OF_ID


@pytest.mark.parametrize("kind", ["labelTrainIds", "labelIds"])
def test_genuine_sample(formats, tmp_path, kind):
    """The source scaled the sample's two masks one by one: they differ in 77 pixels at borders."""
    root = shutil.copytree(formats / "cityscapes", tmp_path / "cityscapes")
    classes, ids = (np.array(Image.open(masks(root, name)[0])) for name in ("labelTrainIds", "labelIds"))
    keep_only(root, kind, "labelIds" if kind == "labelTrainIds" else "labelTrainIds")
    (sample,) = Cityscapes(root, "val")
    assert np.array_equal(sample.labels, classes if kind == "labelTrainIds" else official(ids))
    assert (sample.labels != classes).sum() in (0, 77)
    assert sample.image.shape == (128, 256, 3)


@pytest.mark.parametrize("ids_only", [False, True])
@pytest.mark.parametrize(("split", "count"), [("train", 4), ("val", 1)])
def test_scenes(copy, split, count, ids_only):
    root = copy("cityscapes")
    expected = [np.array(Image.open(path)) for path in masks(root / "gtFine" / split, "labelTrainIds")]
    if ids_only:
        keep_only(root, "labelIds", "labelTrainIds")
    dataset = pickle.loads(pickle.dumps(Cityscapes(root, split)))
    assert len(dataset) == count
    assert all(np.array_equal(sample.labels, labels) for sample, labels in zip(dataset, expected, strict=True))


def test_classes_are_preferred_image_by_image(copy):
    """A class 11 and an id 11 are not the same: each file is read by its own table."""
    root = copy("cityscapes")
    first, *others = masks(root / "gtFine/train", "labelTrainIds")
    expected = [np.array(Image.open(path)) for path in (first, *others)]
    first.unlink()
    assert all(np.array_equal(s.labels, w) for s, w in zip(Cityscapes(root, "train"), expected, strict=True))
    for path in masks(root / "gtFine/train", "labelIds")[1:]:
        Image.new("L", (96, 64), 3).save(path)
    assert all(np.array_equal(s.labels, w) for s, w in zip(Cityscapes(root, "train"), expected, strict=True))


@pytest.mark.parametrize(
    ("labels", "folder", "name"),
    [
        ("gtCoarse", "gtCoarse/train_extra", "_gtCoarse_labelIds"),
        ("refinement", "refinement/train_extra", "_leftImg8bit"),
        ("refinement", "refinement", "_leftImg8bit"),
        ("auto", "auto/train_extra", "_labelIds"),
    ],
)
def test_train_extra(copy, labels, folder, name):
    root = copy("cityscapes")
    expected = [np.array(Image.open(path)) for path in masks(root / "gtFine/train", "labelTrainIds")]
    make_extra(root, folder, name)
    found = [sample.labels for sample in Cityscapes(root, "train_extra", labels=labels)]
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("folder", ["leftImg8bit/val", "gtFine/val"])
def test_missing_split(copy, folder):
    root = copy("cityscapes")
    (root / folder).rename(root / "elsewhere")
    with pytest.raises(InputError, match=f"{folder} does not exist.*split val"):
        Cityscapes(root, "val")


def test_folders_without_the_right_names(copy):
    root = copy("cityscapes")
    keep_only(root / "gtFine/val", "color", "labelTrainIds")
    keep_only(root / "gtFine/val", "color", "labelIds")
    with pytest.raises(InputError, match=r"gtFine/val holds no masks named \*_labelTrainIds.png"):
        Cityscapes(root, "val")
    image = next((root / "leftImg8bit/val").rglob("*.png"))
    image.rename(image.with_name("frankfurt.png"))
    with pytest.raises(InputError, match=r"leftImg8bit/val holds no images named \*_leftImg8bit.png"):
        Cityscapes(root, "val")


@pytest.mark.parametrize("lonely", ["mask", "image"])
def test_unmatched_pair(copy, lonely):
    root = copy("cityscapes")
    gone = masks(root / ("gtFine" if lonely == "image" else "leftImg8bit") / "train", "*")[0]
    for path in gone.parent.glob(gone.name[:19] + "*"):
        path.unlink()
    with pytest.raises(
        InputError, match=r"1 file of .* without a counterpart of the same name: \S*aachen_000000_000019_"
    ):
        Cityscapes(root, "train")


@pytest.mark.parametrize("name", ["labelTrainIds", "labelIds"])
@pytest.mark.parametrize(
    ("kind", "words"), [("out of range", "holds 200; expected classes"), ("three channels", "is RGB.*one channel")]
)
def test_bad_mask(copy, spoil, kind, words, name):
    root = copy("cityscapes")
    if name == "labelIds":
        keep_only(root, "labelIds", "labelTrainIds")
    (mask,) = masks(root / "gtFine/val", name)
    spoil(mask, kind)
    with pytest.raises(InputError, match=f"{mask.name} {words}"):
        Cityscapes(root, "val")[0]


def test_an_id_is_no_class(copy):
    """Ids saved under the name of classes: 26 is a car, but no class."""
    root = copy("cityscapes")
    (mask,) = masks(root / "gtFine/val", "labelTrainIds")
    Image.new("L", (96, 64), 26).save(mask)
    with pytest.raises(InputError, match="holds 26; expected classes 0 to 18"):
        Cityscapes(root, "val")[0]


def test_other_number_of_classes(scenes):
    with pytest.raises(InputError, match="classes has 20 classes; Cityscapes has 19"):
        Cityscapes(scenes("cityscapes"), "val", classes=20)
