"""Files of surface normals, and normals from depth."""

import numpy as np
import pytest
from PIL import Image

from metaprompts.data.io.normal_files import normals_from_depth, read_normals, write_normals
from metaprompts.errors import InputError


def unit_normals(height=5, width=7):
    vectors = np.random.default_rng(0).normal(size=(height, width, 3)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=2, keepdims=True)


def degrees(one, other):
    return np.rad2deg(2 * np.arcsin(np.linalg.norm(one - other, axis=2).clip(0, 2) / 2))


def test_written_and_read_normals_differ_by_a_hundredth_of_a_degree(tmp_path):
    normals = unit_normals()
    normals[0, 0] = 0
    write_normals(tmp_path / "a.png", normals)
    read = read_normals(tmp_path / "a.png")
    assert degrees(read, normals).max() < 0.01
    assert not read[0, 0].any()


def test_eight_bits_and_arrays_are_read(tmp_path):
    normals = unit_normals()
    Image.fromarray(np.rint((normals + 1) * 127.5).astype(np.uint8)).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", normals.astype(np.float64))
    assert degrees(read_normals(tmp_path / "a.png"), normals).max() < 0.5
    np.testing.assert_allclose(read_normals(tmp_path / "a.npy"), normals, atol=1e-6)


@pytest.mark.parametrize("color", [0, 127, 128, 255])
def test_black_gray_and_white_are_no_surface(tmp_path, color):
    Image.new("RGB", (3, 2), (color,) * 3).save(tmp_path / "a.png")
    assert not read_normals(tmp_path / "a.png").any()


def test_not_finite_is_no_surface(tmp_path):
    normals = unit_normals()
    normals[1, 1] = np.nan
    np.save(tmp_path / "a.npy", normals)
    assert not read_normals(tmp_path / "a.npy")[1, 1].any()


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.png", lambda path: Image.new("L", (3, 2)).save(path), r"uint8 \(2, 3\); expected an RGB image"),
        ("a.png", lambda path: path.write_bytes(b"x"), "no image; expected an RGB image"),
        ("a.npy", lambda path: np.save(path, np.zeros((2, 3))), r"expected 3 per pixel, \(H, W, 3\)"),
        ("a.npy", lambda path: np.save(path, np.zeros((2, 3, 4))), r"expected 3 per pixel, \(H, W, 3\)"),
        ("a.png", lambda path: None, "a.png"),
    ],
)
def test_other_files_are_one_error(tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises(InputError, match=message):
        read_normals(tmp_path / name)


def test_a_plane_has_one_normal():
    """z = 4 + x / 2 recedes to the right, so it faces right: (1, 0, 2) / sqrt(5) as x, y and z toward the camera."""
    across = (np.arange(9) - 4) / 10
    depth_m = np.tile(4 / (1 - across / 2), (6, 1)).astype(np.float32)
    depth_m[3, 3] = 0
    normals = normals_from_depth(depth_m, 10.0)
    known = normals.any(axis=2)
    assert not known[3, 2:5].any()
    assert known.sum() == depth_m.size - 5
    np.testing.assert_allclose(normals[0, 0], np.array([1, 0, 2]) / np.sqrt(5), atol=0.02)


def test_the_edge_of_a_thing_has_no_normal():
    depth_m = np.full((4, 8), 2, np.float32)
    depth_m[:, 4:] = 3
    known = normals_from_depth(depth_m, 10.0).any(axis=2)
    assert known[:, [0, 1, 2, 5, 6, 7]].all()
    assert not known[:, [3, 4]].any()
