import pickle

import numpy as np
import pytest
from PIL import Image

from metaprompts.data.layouts.nyu import NyuDepth
from metaprompts.errors import InputError

LISTS = {"train": "nyudepthv2_train_files_with_gt.txt", "val": "nyudepthv2_test_files_with_gt.txt"}


def stored_mm(sample):
    return np.array(Image.open(sample.path.replace("rgb_", "sync_depth_").replace(".jpg", ".png")))


@pytest.mark.parametrize(("split", "count"), [("train", 3), ("val", 1)])
def test_genuine_sample(formats, split, count):
    dataset = NyuDepth(formats / "nyu_depth_v2", split)
    assert len(dataset) == count
    for sample in dataset:
        assert sample.image.shape == (480, 640, 3)
        assert np.array_equal(np.rint(sample.depth_m * 1000), stored_mm(sample))
        assert 0.5 < np.median(sample.depth_m[sample.depth_m > 0]) < 10


@pytest.mark.parametrize(("split", "count"), [("train", 5), ("val", 1)])
def test_scenes_with_two_and_three_columns(scenes, split, count):
    root = scenes("nyu")
    two = pickle.loads(pickle.dumps(NyuDepth(root, split)))
    three = NyuDepth(root, split, list_file=LISTS[split])
    assert len(two) == len(three) == count
    for one, same in zip(two, three, strict=True):
        assert one.path == same.path
        assert np.array_equal(one.depth_m, same.depth_m)
        assert np.array_equal(np.rint(one.depth_m * 1000), stored_mm(one))


def test_three_columns_are_found_where_no_other_list_is(copy):
    root = copy("nyu")
    (root / "train_list.txt").unlink()
    assert len(NyuDepth(root, "train")) == 5
    (root / LISTS["train"]).unlink()
    with pytest.raises(InputError, match=f"no train_list.txt or {LISTS['train']} in .*list of NYU v2's split train"):
        NyuDepth(root, "train")


def test_missing_split(copy):
    root = copy("nyu")
    (root / "official_splits").rename(root / "elsewhere")
    with pytest.raises(InputError, match=r"official_splits/test does not exist.*split val"):
        NyuDepth(root, "val")


def test_comments_and_names_with_spaces(copy):
    """Other lists had them, lists of depth did not."""
    root = copy("nyu")
    image, depth = (root / "train_list.txt").read_text().splitlines()[0].split()
    spaced = image.replace("rgb", "my rgb")
    (root / "sync" / image.lstrip("/")).rename(root / "sync" / spaced.lstrip("/"))
    for line in (f"{spaced}\t{depth}", f"{spaced}\t{depth}\t518.8"):
        (root / "train_list.txt").write_text(f"# mine\n\n{line}\n")
        (sample,) = NyuDepth(root, "train")
        assert sample.path == str(root / "sync" / spaced.lstrip("/"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/a.jpg", r"line 2: 1 columns; expected `image depth`"),
        ("/a.jpg /a.png 518.8 7", r"line 2: 4 columns"),
        ("/a.jpg /a.png far", r"line 2: the third column is 'far'; expected the focal length"),
        ("/a.jpg /a.png -3", r"line 2: the third column is '-3'"),
        ("/a.jpg /a.png", r"line 2: no file a.jpg in \S+sync, "),
    ],
)
def test_bad_line(copy, line, words):
    root = copy("nyu")
    good = (root / "train_list.txt").read_text().splitlines()[0]
    (root / "train_list.txt").write_text(f"{good}\n{line}\n")
    with pytest.raises(InputError, match=f"train_list.txt, {words}"):
        NyuDepth(root, "train")


def test_empty_list(copy):
    root = copy("nyu")
    (root / "train_list.txt").write_text("\n")
    with pytest.raises(InputError, match=r"train_list\.txt names no image with depth"):
        NyuDepth(root, "train")


@pytest.mark.parametrize(
    ("kind", "words"),
    [("8 bits", "is 8-bit gray 64x96; expected 16-bit"), ("three channels", "is RGB 64x96; expected 16-bit")],
)
def test_bad_depth(copy, spoil, kind, words):
    root = copy("nyu")
    depth = next(root.glob("official_splits/test/*/*.png"))
    spoil(depth, kind)
    with pytest.raises(InputError, match=f"{depth.name} {words}"):
        NyuDepth(root, "val")[0]
