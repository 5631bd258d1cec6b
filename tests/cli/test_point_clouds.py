"""metaprompts predict --point-cloud: files, the camera that is named, and options that contradict each other."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from metaprompts.cli import main


@pytest.fixture
def photo(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 28
    Image.new("RGB", (96, 64), (200, 100, 50)).save(tmp_path / "photo.jpg", exif=exif)
    return tmp_path / "photo.jpg"


@pytest.mark.parametrize(
    ("options", "source"),
    [
        ((), "EXIF, 28 mm on 35 mm film"),
        pytest.param(("--fov-x", "90"), "camera with 90.0 degrees horizontally (--fov-x)", marks=pytest.mark.slow),
        pytest.param(
            ("--focal-px", "48"), "camera with 90.0 degrees horizontally (--focal-px)", marks=pytest.mark.slow
        ),
        (("--intrinsics", "camera.txt"), "camera with 90.0 degrees horizontally (camera.txt)"),
    ],
)
def test_the_camera_is_named(models, photo, tmp_path, monkeypatch, capsys, options, source):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "camera.txt").write_text("48 0 47.5 0 48 31.5 0 0 1")
    words = [str(photo), "--out", "out", "--engine", "plain", "--point-cloud", "ply", "--edge", "100"]
    assert main(["predict", str(models / "depth"), *words, *options]) == 0
    assert source in capsys.readouterr().err
    assert (tmp_path / "out/photo_points.ply").read_bytes().startswith(b"ply\n")


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("depth", ("--edge", "0.1"), "--edge requires --point-cloud: add --point-cloud, or omit --edge"),
        (
            "depth",
            ("--fov-x", "60"),
            "--fov-x describes the camera for --point-cloud and --intrinsics-of-training: pass one of them",
        ),
        (
            "depth",
            ("--point-cloud", "ply", "--fov-x", "60", "--focal-px", "9"),
            "--fov-x and --focal-px both describe the camera",
        ),
        ("pose", ("--point-cloud", "ply"), "--point-cloud applies only to depth"),
        ("depth", ("--point-cloud", "ply", "--intrinsics", "gone.txt"), "gone.txt"),
        ("depth", ("--point-cloud", "obj"), "'obj' is not one of 'ply', 'glb'"),
        (
            "depth",
            ("--intrinsics-of-training",),
            "does not state the focal length of its training images (task.focal_px",
        ),
        ("segmentation", ("--intrinsics-of-training",), "--intrinsics-of-training applies only to depth, but "),
    ],
)
def test_contradictions_are_refused(models, photo, tmp_path, monkeypatch, capsys, model, options, message):
    monkeypatch.chdir(tmp_path)
    assert main(["predict", str(models / model), str(photo), "--out", "out", "--engine", "plain", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("out/*.p*"))


def test_an_image_without_a_surface_does_not_stop_the_others(models, tmp_path, capsys):
    """Where every pixel is at a depth edge, nothing is left to write."""
    for name in ("a.png", "b.png"):
        pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    words = [str(tmp_path), "--out", str(tmp_path / "out"), "--engine", "plain", "--point-cloud", "ply"]
    assert main(["predict", str(models / "depth"), *words, "--edge", "1e-9"]) == 2
    error = capsys.readouterr().err
    assert error.count("all are at depth edges; pass a larger edge") == 2
    assert (tmp_path / "out/b_depth.png").is_file()


@pytest.fixture
def stating(models, tmp_path):
    """A depth model that was trained with a focal length of 40 pixels in images of 64x64."""
    shutil.copytree(models / "depth", tmp_path / "stating")
    config = json.loads((tmp_path / "stating/config.json").read_text())
    config["task"]["focal_px"], config["working_size"] = 40.0, [64, 64]
    (tmp_path / "stating/config.json").write_text(json.dumps(config))
    return str(tmp_path / "stating")


def depth_of(out):
    return np.load(out / "photo_depth.npy")


@pytest.mark.slow
def test_depth_is_rescaled_to_the_focal_length_of_training(stating, photo, tmp_path, capsys):
    """The model sees the photo of 96x64 at 64x64, where 120 pixels of focal length are 80: twice those of training."""
    words = ["predict", stating, str(photo), "--raw", "--engine", "plain"]
    assert main([*words, "--out", str(tmp_path / "plain")]) == 0
    assert main([*words, "--out", str(tmp_path / "scaled"), "--intrinsics-of-training", "--focal-px", "120"]) == 0
    assert "depth x 2: focal length 80.0 px (--focal-px), 40.0 px in training" in capsys.readouterr().err
    np.testing.assert_allclose(depth_of(tmp_path / "scaled"), 2 * depth_of(tmp_path / "plain"), rtol=1e-6)


@pytest.mark.slow
def test_an_image_of_an_unknown_camera_is_not_rescaled_by_a_guess(stating, photo, tmp_path, capsys):
    Image.new("RGB", (96, 64)).save(tmp_path / "other.png")
    words = ["predict", stating, str(photo), str(tmp_path / "other.png"), "--engine", "plain"]
    assert main([*words, "--out", str(tmp_path / "out"), "--intrinsics-of-training"]) == 1
    assert "other.png: the camera is unknown (no focal length in EXIF)" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [
        "photo_depth.png",
        "photo_depth_color.png",
    ]
