"""metaprompts predict --point-cloud: files, the camera that is named, and options that contradict each other."""

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
        (("--fov-x", "90"), "camera with 90.0 degrees horizontally (--fov-x)"),
        (("--focal-px", "48"), "camera with 90.0 degrees horizontally (--focal-px)"),
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
        ("depth", ("--fov-x", "60"), "--fov-x is for 3-D files: pass --point-cloud ply or glb as well"),
        (
            "depth",
            ("--point-cloud", "ply", "--fov-x", "60", "--focal-px", "9"),
            "--fov-x and --focal-px both describe the camera",
        ),
        ("pose", ("--point-cloud", "ply"), "--point-cloud is for depth"),
        ("depth", ("--point-cloud", "ply", "--intrinsics", "gone.txt"), "gone.txt"),
        ("depth", ("--point-cloud", "obj"), "'obj' is not one of 'ply', 'glb'"),
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
