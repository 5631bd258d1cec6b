import pickle
import re

import numpy as np
import pytest
from PIL import Image

from metaprompts.data.layouts.kitti import KittiEigen, KittiSelection
from metaprompts.errors import InputError

LISTS = {"train": "eigen_train_files_with_gt.txt", "val": "eigen_test_files_with_gt.txt"}


def stored(root, sample):
    drive, frame = re.search(r"/(\w+_sync)/image_02/data/(\d+)\.png", sample.path).groups()
    return np.array(Image.open(next(root.glob(f"data_depth_annotated/*/{drive}/**/{frame}.png"))))


@pytest.mark.parametrize(("split", "count"), [("train", 2), ("val", 1)])
def test_genuine_sample(formats, split, count):
    root = formats / "kitti"
    dataset = KittiEigen(root, split)
    assert len(dataset) == count
    for sample in dataset:
        assert sample.image.shape == (375, 1242, 3)
        assert np.array_equal(sample.depth_m * 256, stored(root, sample))
        assert 0.1 < (sample.depth_m > 0).mean() < 0.3
        assert 3 < np.median(sample.depth_m[sample.depth_m > 0]) < 40


@pytest.mark.parametrize(("split", "count"), [("train", 5), ("val", 1)])
def test_scenes_with_two_and_three_columns(scenes, split, count):
    root = scenes("kitti")
    two, three = (pickle.loads(pickle.dumps(KittiEigen(root, split, list_file=name))) for name in (None, LISTS[split]))
    assert len(two) == len(three) == count
    for one, same in zip(two, three, strict=True):
        assert one.path == same.path
        assert np.array_equal(one.depth_m, same.depth_m)
        assert np.array_equal(one.depth_m * 256, stored(root, one))


def test_lists_that_leave_out_train_and_val(copy):
    """The oldest list files were written for a folder in which both were merged."""
    root = copy("kitti")
    name = root / LISTS["train"]
    name.write_text(name.read_text().replace(" train/", " ").replace(" val/", " "))
    assert [sample.path for sample in KittiEigen(root, "train", list_file=name.name)] == [
        sample.path for sample in KittiEigen(root, "train")
    ]


def test_images_without_depth_are_passed_over_and_counted(copy):
    root = copy("kitti")
    lines = (root / LISTS["train"]).read_text().splitlines()
    lines[1] = re.sub(r" \S+\.png ", " None ", lines[1])
    (root / LISTS["train"]).write_text("\n".join(lines))
    dataset = KittiEigen(root, "train", list_file=LISTS["train"])
    assert (len(dataset), dataset.unmeasured) == (4, 1)
    assert not any(lines[1].split()[0] in sample.path for sample in dataset)
    (root / LISTS["train"]).write_text(lines[1])
    with pytest.raises(InputError, match="names no image with depth"):
        KittiEigen(root, "train", list_file=LISTS["train"])


def test_missing_list(copy):
    root = copy("kitti")
    for name in ("test_list.txt", LISTS["val"]):
        (root / name).unlink()
    with pytest.raises(InputError, match=r"no test_list.txt or eigen_test_files_with_gt.txt in .*Eigen split val"):
        KittiEigen(root, "val")


@pytest.mark.parametrize("gone", ["raw_data", "data_depth_annotated"])
def test_missing_folder(copy, gone):
    root = copy("kitti")
    (root / gone).rename(root / "elsewhere")
    with pytest.raises(InputError, match=rf"train_list.txt, line 1: no file {gone}/\S+ in "):
        KittiEigen(root, "train")


@pytest.mark.parametrize("line", ["a.png", "a.png b.png 721.5 1", "a.png b.png x"])
def test_bad_line(copy, line):
    root = copy("kitti")
    (root / "train_list.txt").write_text(line)
    with pytest.raises(InputError, match=r"train_list.txt, line 1: (\d columns; expected|the third column is 'x')"):
        KittiEigen(root, "train")


def test_8_bit_depth(copy, spoil):
    root = copy("kitti")
    depth = next(root.glob("data_depth_annotated/val/**/*.png"))
    spoil(depth, "8 bits")
    with pytest.raises(InputError, match=f"{depth.name} is 8-bit gray 64x96; expected 16-bit.*in meters x 256, or"):
        KittiEigen(root, "val")[0]


class TestSelection:
    @pytest.mark.parametrize("inner", [".", "depth_selection"])
    def test_scenes(self, scenes, inner):
        root = scenes("kitti")
        (sample,) = KittiSelection(root / inner)
        depth = next(root.glob("depth_selection/val_selection_cropped/groundtruth_depth/*.png"))
        image = next(root.glob("depth_selection/val_selection_cropped/image/*.png"))
        assert np.array_equal(sample.depth_m * 256, np.array(Image.open(depth)))
        assert np.array_equal(sample.image, np.array(Image.open(image)))

    def test_unmatched_pair(self, copy):
        root = copy("kitti")
        depth = next(root.glob("depth_selection/val_selection_cropped/groundtruth_depth/*.png"))
        depth.rename(depth.with_name(depth.name.replace("image_02", "image_03")))
        with pytest.raises(InputError, match=r"2 files of .* without a counterpart.*image_02.png, \S+image_03.png"):
            KittiSelection(root)

    def test_missing_and_empty(self, copy, tmp_path):
        with pytest.raises(InputError, match="val_selection_cropped does not exist; expected KITTI's depth selection"):
            KittiSelection(tmp_path)
        root = copy("kitti")
        next(root.glob("depth_selection/val_selection_cropped/image/*.png")).unlink()
        with pytest.raises(InputError, match="image holds no PNG files"):
            KittiSelection(root)
