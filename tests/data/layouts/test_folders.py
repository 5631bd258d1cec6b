"""Masks and depth, from list files and from folders."""

import pickle

import numpy as np
import pytest
from PIL import Image

from labeled_folders import depth_folder, segmentation_folder
from metaprompts.data.io.depth_files import DepthEncoding
from metaprompts.errors import InputError


@pytest.fixture
def write(tmp_path):
    """Write one image of the label's size and the label; return the root."""

    def write_pair(label, size=None):
        height, width = label.shape if size is None else size
        for name in ("images", "labels"):
            (tmp_path / name).mkdir(exist_ok=True)
        Image.new("RGB", (width, height), (1, 2, 3)).save(tmp_path / "images/a.png")
        Image.fromarray(label).save(tmp_path / "labels/a.png")
        return tmp_path

    return write_pair


class TestSegmentation:
    def test_ignored_values_become_255(self, write):
        root = write(np.array([[0, 1, 2], [3, 11, 255]], np.uint8))
        sample = segmentation_folder(root, "images", "labels", classes=4, ignored=(11,))[0]
        assert sample.labels.tolist() == [[0, 1, 2], [3, 255, 255]]
        assert sample.labels.dtype == np.uint8
        assert sample.image.shape == (2, 3, 3)
        assert sample.path == str(root / "images/a.png")

    def test_reduce_zero_label(self, write):
        root = write(np.array([[0, 1, 3, 255]], np.uint8))
        dataset = segmentation_folder(root, "images", "labels", classes=3, reduce_zero_label=True)
        assert dataset[0].labels.tolist() == [[255, 0, 2, 255]]

    def test_16_bit(self, write):
        root = write(np.array([[0, 300]], np.uint16))
        dataset = segmentation_folder(root, "images", "labels", classes=1, ignore_index=300)
        assert dataset[0].labels.tolist() == [[0, 255]]

    @pytest.mark.parametrize(
        ("reduce_zero_label", "words"), [(False, "holds 3, 9; expected classes 0 to 2"), (True, "holds 9;.* 1 to 3")]
    )
    def test_values_that_are_no_class(self, write, reduce_zero_label, words):
        root = write(np.array([[0, 3, 9, 9]], np.uint8))
        dataset = segmentation_folder(root, "images", "labels", classes=3, reduce_zero_label=reduce_zero_label)
        with pytest.raises(InputError, match=f"labels/a.png {words}"):
            dataset[0]

    def test_other_size(self, write):
        root = write(np.zeros((2, 3), np.uint8), size=(4, 3))
        with pytest.raises(InputError, match=r"images/a.png is 4x3 but \S*labels/a.png is 2x3"):
            segmentation_folder(root, "images", "labels", classes=3)[0]

    @pytest.mark.parametrize("classes", [0, 256])
    def test_classes(self, tmp_path, classes):
        with pytest.raises(InputError, match="1 to 255"):
            segmentation_folder(tmp_path, "images", "labels", classes=classes)

    def test_ignored_out_of_range(self, write):
        with pytest.raises(InputError, match="-1 is outside"):
            segmentation_folder(write(np.zeros((1, 1), np.uint8)), "images", "labels", classes=2, ignored=(-1,))

    def test_pickles(self, write):
        dataset = segmentation_folder(write(np.array([[0, 1]], np.uint8)), "images", "labels", classes=2)
        again = pickle.loads(pickle.dumps(dataset))
        assert len(again) == 1
        assert again[0].labels.tolist() == [[0, 1]]

    def test_camvid(self, shared_data):
        dataset = segmentation_folder(shared_data / "camvid", "val.txt", classes=11, ignored=(11,))
        assert len(dataset) == 101
        sample = dataset[100]
        assert sample.image.shape == (240, 320, 3)
        assert set(np.unique(sample.labels)) <= {*range(11), 255}
        with pytest.raises(IndexError):
            dataset[101]

    def test_camvid_void_must_be_named(self, shared_data):
        dataset = segmentation_folder(shared_data / "camvid", "val.txt", classes=11)
        with pytest.raises(InputError, match="holds 11; expected classes 0 to 10"):
            dataset[0]

    def test_ade20k(self, shared_data):
        root = shared_data / "formats/ade20k/ADEChallengeData2016"
        dataset = segmentation_folder(
            root, "images/training", "annotations/training", classes=150, reduce_zero_label=True
        )
        for sample in dataset:
            stored = np.array(Image.open(sample.path.replace("images", "annotations").replace("jpg", "png")))
            assert 0.8 < (sample.labels != 255).mean() < 1
            assert np.array_equal(sample.labels, (stored.astype(int) - 1) % 256)


class TestDepth:
    def test_meters(self, write):
        root = write(np.array([[0, 512]], np.uint16))
        assert depth_folder(root, "images", "labels", encoding=DepthEncoding(depth_scale=256))[0].depth_m.tolist() == [
            [0, 2]
        ]
        assert depth_folder(root, "images", "labels")[0].depth_m == pytest.approx(np.array([[0, 0.512]]))

    def test_other_size(self, write):
        root = write(np.zeros((2, 3), np.uint16), size=(3, 2))
        with pytest.raises(InputError, match=r"images/a.png is 3x2 but \S*labels/a.png is 2x3"):
            depth_folder(root, "images", "labels")[0]

    def test_pickles(self, write):
        dataset = pickle.loads(pickle.dumps(depth_folder(write(np.ones((1, 1), np.uint16)), "images", "labels")))
        assert dataset[0].depth_m == pytest.approx(0.001)

    def test_red_kitchen(self, shared_data):
        dataset = depth_folder(shared_data / "depth", "redkitchen_val.txt")
        assert len(dataset) == 50
        sample = dataset[0]
        measured = sample.depth_m[sample.depth_m > 0]
        assert sample.image.shape == (*sample.depth_m.shape, 3) == (240, 320, 3)
        assert 0.8 <= measured.min() < measured.max() < 4

    def test_kitti(self, shared_data):
        dataset = depth_folder(shared_data / "formats/kitti", "train_list.txt", encoding=DepthEncoding(depth_scale=256))
        assert [sample.depth_m.shape for sample in dataset] == [(375, 1242)] * 2
