"""What is said of files of other formats than expected."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from metaprompts.data.io.depth_files import DepthEncoding, read_depth_m
from metaprompts.data.io.labels import read_color_mask, read_index_mask
from metaprompts.data.io.list_files import read_pairs
from metaprompts.errors import InputError
from metaprompts.utils.tensor_files import read_tensors


@pytest.mark.parametrize("read", [read_index_mask, read_color_mask])
def test_masks_are_not_to_be_jpeg(tmp_path, read):
    """Of a .npy mask it was said "give a PNG or JPEG file", and JPEG masks are refused."""
    np.save(tmp_path / "m.npy", np.ones((4, 4)))
    with pytest.raises(InputError, match=r"is a NumPy array: give a PNG, TIFF, BMP, GIF or PGM file"):
        read(tmp_path / "m.npy")


@pytest.mark.parametrize(
    ("content", "named"), [(b"\x89HDF\r\n\x1a\n", "an HDF5 file"), (b"MATLAB 5.0 MAT-file", "a MATLAB file")]
)
def test_depth_in_containers(tmp_path, content, named):
    """HDF5 was "broken or truncated (cannot find loader for this HDF5 file)", without a format to give."""
    (tmp_path / "x.mat").write_bytes(content + bytes(200))
    with pytest.raises(InputError, match=f"x.mat is {named}: give 16-bit PNG, TIFF"):
        read_depth_m(tmp_path / "x.mat", DepthEncoding())


def _tiff(path: Path, dtype: type) -> None:
    cv2.imwrite(str(path), np.ones((8, 8, 3), dtype))


def test_depth_of_three_channels(tmp_path):
    """Float TIFF of 3 channels and color PFM were "not an image, whatever its name says"."""
    _tiff(tmp_path / "f.tif", np.float32)
    _tiff(tmp_path / "d.tif", np.float64)
    (tmp_path / "c.pfm").write_bytes(b"PF\n4 4\n-1\n" + bytes(4 * 48))
    for name in ("f.tif", "d.tif", "c.pfm"):
        with pytest.raises(InputError, match=f"{name} has 3 floats per pixel; expected one"):
            read_depth_m(tmp_path / name, DepthEncoding())


def test_an_image_as_a_checkpoint(tmp_path):
    """import-released image.png showed PyTorch's "Weights only load failed. In PyTorch 2.6, we changed"."""
    cv2.imwrite(str(tmp_path / "i.png"), np.ones((8, 8), np.uint8))
    (tmp_path / "i.txt").write_text("hello")
    for name in ("i.png", "i.txt"):
        with pytest.raises(
            InputError, match=rf"{name} is damaged or not a PyTorch checkpoint \(it lacks the file signature\)"
        ):
            read_tensors(tmp_path / name)


@pytest.mark.parametrize("line", ["a.png,b.png", "a.png, b.png", "a.png;b.png", "a.png | b.png", "a.png|b.png"])
def test_lists_with_other_separators(tmp_path, line):
    """Of "a.png, b.png" it was said that a file does not exist, of "a.png;b.png" that it is one path."""
    (tmp_path / "list.txt").write_text(line)
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"list.txt, line 1: .*; [,;|] is not a separator here"):
        read_pairs(tmp_path / "list.txt", tmp_path)
