"""Depth in 3-D, against scenes whose cameras and surfaces are exact, and against a real stereo pair."""

import json
import os
import struct
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from metaprompts.data.io.intrinsics import Intrinsics, default_intrinsics, exif_intrinsics, read_matrix
from metaprompts.errors import InputError
from metaprompts.synthetic import generate_scene
from metaprompts.tasks.predictions import DepthPrediction
from metaprompts.visualize.point_cloud import PointCloud, depth_edges

MOTORCYCLE = os.environ.get("METAPROMPTS_MOTORCYCLE", "")


def read_ply(path):
    """(N, 3) positions and colors of a PLY file, read by what its header says."""
    header, _, body = path.read_bytes().partition(b"end_header\n")
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    (count,) = (int(line.split()[2]) for line in lines if line.startswith("element vertex"))
    names = [line.split()[2] for line in lines if line.startswith("property")]
    assert names == ["x", "y", "z", "red", "green", "blue"]
    rows = [struct.unpack_from("<fffBBB", body, 15 * row) for row in range(count)]
    assert len(body) == 15 * count
    return np.array([row[:3] for row in rows]), np.array([row[3:] for row in rows])


def prediction_of(scene):
    return DepthPrediction(depth_m=scene.depth_m, image=scene.image, valid=scene.depth_m > 0)


@pytest.mark.parametrize("seed", [3, 4, 8])
def test_planes_of_scenes_are_flat(seed):
    """The floor or road of a scene: its points lie in one horizontal plane to a thousandth of a meter."""
    scene = generate_scene(seed, 96, 144)
    cloud = prediction_of(scene).point_cloud(intrinsics=Intrinsics.from_matrix(scene.intrinsics), edge=None)
    # The thing with the most pixels below the middle is the ground or a wall.
    rows = scene.things[60:]
    number = np.bincount(rows[rows >= 0]).argmax()
    points = cloud.points_m[(scene.things == number) & cloud.kept].astype(np.float64)
    centered = points - points.mean(axis=0)
    *_, normal = np.linalg.svd(centered, full_matrices=False)[2]
    # One thing may have several faces, such as a room's walls: take the points of the largest plane.
    normal = _largest_plane(centered, normal)
    distances = centered @ normal
    nearest = np.abs(distances - np.median(distances)) < 0.01
    assert nearest.sum() > 200
    assert np.ptp(distances[nearest]) < 1e-3


def _largest_plane(points, guess):
    generator = np.random.default_rng(0)
    best, most = guess, 0
    for _ in range(200):
        one, two, three = points[generator.choice(len(points), 3, replace=False)]
        normal = np.cross(two - one, three - one)
        if np.linalg.norm(normal) < 1e-6:
            continue
        normal /= np.linalg.norm(normal)
        count = int((np.abs((points - one) @ normal) < 1e-3).sum())
        if count > most:
            best, most = normal, count
    return best


def test_distances_in_scenes_are_right():
    """Between any two pixels the distance is that of the points which the scene's own camera projects there."""
    scene = generate_scene(5, 64, 96)
    cloud = prediction_of(scene).point_cloud(intrinsics=Intrinsics.from_matrix(scene.intrinsics), edge=None)
    rays = np.linalg.inv(scene.intrinsics)
    generator = np.random.default_rng(0)
    kept = np.argwhere(cloud.kept)
    for (row, column), (other_row, other_column) in kept[generator.choice(len(kept), (50, 2))]:
        truth = [rays @ [x, y, 1.0] * float(scene.depth_m[y, x]) for y, x in ((row, column), (other_row, other_column))]
        expected = np.linalg.norm(truth[0] - truth[1])
        found = np.linalg.norm(cloud.points_m[row, column] - cloud.points_m[other_row, other_column])
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_by_hand(tmp_path):
    """Two meters away and 90 degrees wide, a 4 x 2 image spans 3 m between the centers of its outer pixels."""
    depth_m = np.full((2, 4), 2.0, np.float32)
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    cloud = DepthPrediction(depth_m=depth_m, image=image).point_cloud(fov_x_deg=90)
    assert cloud.points_m[:, :, 0].tolist() == [[-1.5, -0.5, 0.5, 1.5]] * 2
    assert cloud.points_m[:, 0].tolist() == [[-1.5, -0.5, 2.0], [-1.5, 0.5, 2.0]]
    # A plain string, as in README, ended with an AttributeError.
    points, colors = read_ply(cloud.save(str(tmp_path / "a.ply")))
    # In the file y is up, and z toward the viewer.
    assert points[0].tolist() == [-1.5, 0.5, -2.0]
    assert colors.tolist() == image.reshape(-1, 3).tolist()
    with pytest.raises(InputError, match=r"expected \.ply or \.glb"):
        cloud.save(tmp_path / "a.obj")


def test_surface(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    depth_m = np.full((3, 5), 2.0, np.float32)
    depth_m[:, 3:] = 8.0
    image = np.zeros((3, 5, 3), np.uint8)
    image[..., 0] = 255
    path = DepthPrediction(depth_m=depth_m, image=image).point_cloud(focal_px=4, edge=None).save(tmp_path / "a.glb")
    (mesh,) = trimesh.load(path).geometry.values()
    assert (len(mesh.vertices), len(mesh.faces)) == (15, 16)
    assert mesh.bounds[:, 2].tolist() == [-8, -2]
    # The front of a surface that faces the camera points to it, along +z.
    front = mesh.face_normals[np.all(mesh.triangles[:, :, 2] == -2, axis=1)]
    assert np.allclose(front, [0, 0, 1])
    texture = mesh.visual.material.baseColorTexture
    assert texture.convert("RGB").getpixel((2, 1)) == (255, 0, 0)


def test_edges_are_cut():
    """Between near and far surfaces, neither of which is a pixel's own, points hung in the air."""
    depth_m = np.full((4, 6), 2.0, np.float32)
    depth_m[:, 3:] = 2.1
    assert depth_edges(depth_m, 0.04).tolist() == [[False, False, True, True, False, False]] * 4
    assert not depth_edges(depth_m, 0.06).any()
    depth_m[0, 0] = np.nan
    cloud = PointCloud.from_depth(depth_m, np.zeros((4, 6, 3), np.uint8), default_intrinsics(4, 6))
    assert len(cloud) == 4 * 4 - 1


def test_nothing_left_is_refused(tmp_path):
    cloud = DepthPrediction(depth_m=np.zeros((2, 2), np.float32), image=np.zeros((2, 2, 3), np.uint8)).point_cloud()
    with pytest.raises(InputError, match="no pixel has a depth"):
        cloud.save(tmp_path / "a.ply")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".txt", ".json", ".npy"])
def test_matrix_files(tmp_path, suffix):
    matrix, path = np.array([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]]), tmp_path / f"camera{suffix}"
    if suffix == ".npy":
        np.save(path, matrix)
    else:
        path.write_text(json.dumps(matrix.tolist()) if suffix == ".json" else "500, 0 320\n0 510 240\n0 0 1\n")
    assert read_matrix(path).matrix.tolist() == matrix.tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3", "is not a matrix of 3x3 numbers"),
        ("500 3 320 0 510 240 0 0 1", "has skew"),
        ("500 0 320 0 510 240 0 0 2", "its last row is not 0 0 1"),
        ("-500 0 320 0 510 240 0 0 1", "focal_x_px is -500.0; expected more than 0"),
        ("a b c d e f g h i", "is not a matrix of 3x3 numbers"),
    ],
)
def test_wrong_matrices_are_refused(tmp_path, text, message):
    (tmp_path / "camera.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        read_matrix(tmp_path / "camera.txt")


def test_focal_length_of_exif(tmp_path):
    """36 mm on 35 mm film are 53 degrees along the wide side of a 3:2 image."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 36
    Image.new("RGB", (300, 200)).save(tmp_path / "a.jpg", exif=exif)
    Image.new("RGB", (300, 200)).save(tmp_path / "b.jpg")
    found = exif_intrinsics(tmp_path / "a.jpg", 200, 300)
    assert found.focal_x_px == pytest.approx(300)
    assert found.fov_x_deg(300) == pytest.approx(53.13, abs=0.01)
    assert exif_intrinsics(tmp_path / "b.jpg", 200, 300) is None
    assert default_intrinsics(300, 200).fov_x_deg(200) == pytest.approx(42.1, abs=0.1)


@pytest.mark.skipif(not MOTORCYCLE, reason="METAPROMPTS_MOTORCYCLE names no wheel of scikit-image 0.17 with the pair")
def test_a_real_photograph_has_right_sizes(tmp_path):
    """Middlebury's motorcycle: 193.001 mm baseline, 994.978 px focal length, Z = b f / (d + 31.086)."""
    with zipfile.ZipFile(Path(MOTORCYCLE)) as wheel:
        disparity = np.load(wheel.open("skimage/data/motorcycle_disp.npz"))["arr_0"]
        image = np.array(Image.open(wheel.open("skimage/data/motorcycle_left.png")).convert("RGB"))
    with np.errstate(invalid="ignore"):
        depth_m = np.where(np.isfinite(disparity), 0.193001 * 994.978 / (disparity + 31.086), 0).astype(np.float32)
    camera = Intrinsics.from_matrix([[994.978, 0, 311.193], [0, 994.978, 254.877], [0, 0, 1]])
    cloud = DepthPrediction(depth_m=depth_m, image=image, valid=depth_m > 0).point_cloud(intrinsics=camera)
    # OpenCV computes the same from the disparity.
    to_space = np.array(
        [[1, 0, 0, -311.193], [0, 1, 0, -254.877], [0, 0, 0, 994.978], [0, 0, 1 / 0.193001, 31.086 / 0.193001]]
    )
    expected = cv2.reprojectImageTo3D(np.where(cloud.kept, disparity, 1).astype(np.float32), to_space)
    assert len(cloud) > 250_000
    assert np.allclose(cloud.points_m[cloud.kept], expected[cloud.kept], rtol=1e-4, atol=1e-4)
    assert cloud.save(tmp_path / "a.ply").stat().st_size > 15 * len(cloud)
