import itertools
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from clips import read_clip
from metaprompts.cli import main
from metaprompts.synthetic.camera import camera_from_angles
from metaprompts.synthetic.drive import generate_drive
from metaprompts.synthetic.motion import exact_flow
from metaprompts.synthetic.render import render
from metaprompts.synthetic.solids import Material, ball, plane
from metaprompts.synthetic.vectors import FORWARD, Vector
from metaprompts.synthetic.world import Light, Sky, Thing, World

GRAY = Material(color=(0.5, 0.5, 0.5))
LIGHT = Light(position=Vector(0, 50, -50), strength=0.5, ambient=(0.5, 0.5, 0.5))
SKY = Sky(zenith=(0.5, 0.5, 0.5), horizon=(0.5, 0.5, 0.5))


def view(camera_x: float, ball_x: float):
    """A wall at 8 meters, and a ball at 4 meters in front of it."""
    solids = (plane(Vector(0, 0, 8), FORWARD.times(-1), GRAY), ball(Vector(ball_x, 0, 4), 0.5, GRAY))
    world = World(things=(Thing(label="wall", solids=solids),), light=LIGHT, sky=SKY)
    camera = camera_from_angles(Vector(camera_x, 0, 0), yaw_deg=0, pitch_deg=0, opening_deg=60, height=48, width=64)
    return world, camera, render(world, camera)


def test_flow_by_hand():
    """The camera moved 0.2 m to the right, the ball 0.1 m: points move by focal length x way / depth."""
    now, before = view(0.2, 0.1), view(0.0, 0.0)
    flow, seen = exact_flow(now, before)
    focal_px = 32 / np.tan(np.radians(30))
    assert flow[5, 5] == pytest.approx([0.2 * focal_px / 8, 0], abs=1e-4)
    # The ball's nearest point, seen from the camera: it moved 0.1 m less than the camera.
    row, column = 24, round(31.5 - 0.1 * focal_px / 3.5)
    depth = now[2].depth_m[row, column]
    assert depth < 3.6
    assert flow[row, column] == pytest.approx([0.1 * focal_px / depth, 0], abs=1e-3)
    assert seen[5, 5]
    # What the ball has uncovered was not seen before.
    assert not seen.all()
    assert seen.mean() > 0.9


def test_a_drive_is_followed_by_its_flow():
    frames = list(generate_drive(8, 3, 48, 72))
    assert not frames[0].seen_before.any()
    for before, frame in itertools.pairwise(frames):
        rows, columns = np.mgrid[:48, :72].astype(np.float32)
        places = np.stack([columns, rows], axis=2) + frame.flow
        followed = cv2.remap(before.scene.image, places, None, cv2.INTER_LINEAR).astype(int)
        still = before.scene.image.astype(int)
        errors, errors_still = (
            np.abs(each - frame.scene.image)[frame.seen_before].mean() for each in (followed, still)
        )
        assert frame.seen_before.mean() > 0.85
        assert errors < 0.75 * errors_still
    # People walk.
    first, last = (each.scene.people for each in (frames[0], frames[-1]))
    moves = [abs(one.keypoints - two.keypoints).max() for one, two in zip(first, last, strict=True)]
    assert max(moves) > 0.5


def test_the_same_seed_gives_the_same_drive():
    one, two = (list(generate_drive(3, 2, 32, 48)) for _ in range(2))
    np.testing.assert_array_equal(one[1].scene.image, two[1].scene.image)
    np.testing.assert_array_equal(one[1].flow, two[1].flow)


def test_clips_on_disk(tmp_path, capsys):
    words = ["scenes", "--layout", "video", "--count", "1", "--frames", "2", "--height", "32", "--width", "48"]
    out = tmp_path / "drives"
    assert main([*words, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"1 video in {out}\n"
    times, frames = read_clip(out / "videos/000.mp4")
    assert times == [0, 0.04]
    truth = out / "truth/000"
    drawn = np.asarray(Image.open(truth / "000001.png"))
    assert np.abs(frames[1].astype(int) - drawn).mean() < 8
    assert np.load(truth / "000001_depth.npy").shape == (32, 48)
    assert np.load(truth / "000001_flow.npy").shape == (32, 48, 2)
    assert len(json.loads((truth / "frames.json").read_text())["frames"]) == 2
    written = (out / "videos/000.mp4").stat().st_mtime_ns
    assert main([*words, "--out", str(out)]) == 0
    assert (out / "videos/000.mp4").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--layout", "video", "--density", "0.3"], "--density does not apply to layout video"),
        (["--layout", "video", "--width", "33"], "expected at least 1 of each, and even sides"),
        (["--layout", "plain", "--frames", "3"], "--frames requires layout video, but the layout is plain"),
    ],
)
def test_options_that_do_not_fit(tmp_path, capsys, words, line):
    assert main(["scenes", *words, "--out", str(tmp_path / "out")]) == 2
    assert line in capsys.readouterr().err
