"""MATLAB files in the two formats of the real ones, made by h5py and SciPy."""

import pickle
import sys

import numpy as np
import pytest

from metaprompts.data.layouts.nyu import NyuMat
from metaprompts.errors import InputError

COUNT = 4
REASON = "reading MATLAB files needs the extra mat"


@pytest.fixture(scope="module")
def arrays():
    """Images and depth as MATLAB shows them: the sample comes last."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (480, 640, 3, COUNT), dtype=np.uint8)
    depth = generator.uniform(0.5, 9, (480, 640, COUNT)).astype(np.float32)
    depth[:3] = 0
    return images, depth


@pytest.fixture
def root(arrays, tmp_path):
    h5py = pytest.importorskip("h5py", reason=REASON)
    scipy_io = pytest.importorskip("scipy.io", reason=REASON)
    images, depth = arrays
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "w", userblock_size=512) as file:
        # MATLAB counts the first dimension fastest, HDF5 the last.
        file["images"] = images.transpose(3, 2, 1, 0)
        file["rawDepths"] = depth.transpose(2, 1, 0)
        file["depths"] = depth.transpose(2, 1, 0) + 1
    split = {"trainNdxs": np.array([[3], [1]], np.uint16), "testNdxs": np.array([[2], [4]], np.uint16)}
    scipy_io.savemat(tmp_path / "splits.mat", split, format="5")
    return tmp_path


@pytest.mark.parametrize(("split", "numbers"), [("train", [3, 1]), ("val", [2, 4])])
def test_images_and_depth(root, arrays, split, numbers):
    images, depth = arrays
    dataset = pickle.loads(pickle.dumps(NyuMat(root, split)))
    assert len(dataset) == 2
    for sample, number in zip(dataset, numbers, strict=True):
        assert np.array_equal(sample.depth_m, depth[:, :, number - 1])
        assert np.array_equal(sample.image[7:474, 7:632], images[7:474, 7:632, :, number - 1])
        assert sample.path.endswith(f"nyu_depth_v2_labeled.mat/{number - 1:05d}")
        frame = sample.image.copy()
        frame[7:474, 7:632] = 0
        assert not frame.any()
    with pytest.raises(IndexError):
        dataset[2]


@pytest.mark.parametrize("name", ["nyu_depth_v2_labeled.mat", "splits.mat"])
def test_missing_file(root, name):
    (root / name).unlink()
    with pytest.raises(InputError, match=f"no {name} in "):
        NyuMat(root, "train")


@pytest.mark.parametrize(
    ("name", "words"),
    [("nyu_depth_v2_labeled.mat", r"not a MATLAB 7.3 \(HDF5\) file"), ("splits.mat", "not a MATLAB 5 file")],
)
def test_broken_file(root, name, words):
    (root / name).write_bytes(b"<html>not found</html>" * 20)
    with pytest.raises(InputError, match=f"{name} is {words}"):
        NyuMat(root, "train")


def test_split_without_indices(root):
    import scipy.io

    scipy.io.savemat(root / "splits.mat", {"other": 1})
    with pytest.raises(InputError, match=r"splits\.mat has no testNdxs"):
        NyuMat(root, "val")


@pytest.mark.parametrize("numbers", [[0], [COUNT + 1], []])
def test_split_of_other_images(root, numbers):
    import scipy.io

    scipy.io.savemat(root / "splits.mat", {"trainNdxs": np.array(numbers, np.uint16)})
    with pytest.raises(InputError, match="holds 4 images and 4 depth maps"):
        NyuMat(root, "train")


@pytest.mark.parametrize("wrong", ["missing", "turned"])
def test_labeled_file_of_another_form(root, arrays, wrong):
    import h5py

    with h5py.File(root / "nyu_depth_v2_labeled.mat", "a") as file:
        del file["rawDepths"]
        if wrong == "turned":
            file["rawDepths"] = arrays[1].transpose(2, 0, 1)
    words = "no rawDepths" if wrong == "missing" else r"rawDepths of \(4, 480, 640\)"
    with pytest.raises(InputError, match=rf"labeled.mat has {words}; expected \(1449, 640, 480\)"):
        NyuMat(root, "train")


@pytest.mark.parametrize(("module", "package"), [("h5py", "h5py"), ("scipy.io", "scipy")])
def test_a_missing_library_is_named(root, monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"needs {package}: pip install 'metaprompts\[mat\]'"):
        NyuMat(root, "train")
