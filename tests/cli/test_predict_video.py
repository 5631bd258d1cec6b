import json
import os
import signal
import sys
from itertools import count
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from clips import plain_frames, read_clip, sound_packets, write_clip
from metaprompts.cli import main
from metaprompts.inference import predict as inference_predict
from metaprompts.inference.video import outputs

TIMES = [0, 40, 120, 130, 300]


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4", plain_frames(5, 48, 64), TIMES, sound="aac")


@pytest.fixture(autouse=True)
def _quick_models(monkeypatch):
    """What is tested here is around the network, which takes a second a frame."""

    def forward_raw(model, images, context):
        channels = model.task.outputs
        raw = torch.linspace(1, 2, channels)[:, None, None] + images.mean(dim=1, keepdim=True)
        return torch.nn.functional.avg_pool2d(raw, 4) if model.task.reads_boxes else raw

    monkeypatch.setattr(inference_predict, "forward_raw", forward_raw)


def predict(model, *words):
    return main(["predict", str(model), *map(str, words), "--engine", "plain"])


def test_a_clip_becomes_a_clip_with_its_times_and_sound(models, clip, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict(models / "depth", clip, "--out", out, "--no-legend") == 0
    said = capsys.readouterr()
    assert f"{clip}: colors from " in said.err
    assert f"{clip}: 5 frames in {out / 'clip_depth.mp4'}" in said.err
    assert said.out == f"1 of 1 video predicted, results in {out}\n"
    times, frames = read_clip(out / "clip_depth.mp4")
    assert times == [each / 1000 for each in TIMES]
    assert frames[0].shape == (48, 64, 3)
    assert sound_packets(out / "clip_depth.mp4") == sound_packets(clip)
    assert [path.name for path in out.iterdir()] == ["clip_depth.mp4"]


@pytest.mark.slow
def test_frames_without_the_filter_are_those_of_images(models, clip, tmp_path):
    """--temporal off predicts each frame as an image, and --raw writes its files."""
    out = tmp_path / "out"
    assert predict(models / "depth", clip, "--out", out, "--temporal", "off", "--raw", "--batch-size", "2") == 0
    _, frames = read_clip(clip)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{number:06d}.png")
    images = sorted(tmp_path.glob("0*.png"))
    assert predict(models / "depth", *images, "--out", tmp_path / "images", "--raw") == 0
    for number in range(5):
        found, expected = (
            np.load(folder / f"{number:06d}_depth.npy") for folder in (out / "clip_frames", tmp_path / "images")
        )
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_segmentation_has_a_legend_and_its_classes(models, clip, tmp_path):
    out = tmp_path / "out"
    assert predict(models / "segmentation", clip, "--out", out, "--every", "2", "--window", "64,64") == 0
    times, frames = read_clip(out / "clip_overlay.mp4")
    assert times == [0, 0.12, 0.3]
    # The legend is below, 160 pixels wide, and the sides are even.
    assert frames[0].shape[1] == 160
    assert frames[0].shape[0] > 60
    assert frames[0].shape[0] % 2 == 0
    classes = json.loads((out / "clip_classes.json").read_text())
    assert [entry["name"] for entry in classes.values()] == ["ground", "sky"]
    assert sum(entry["share"] for entry in classes.values()) == pytest.approx(1)


def test_pose_writes_a_line_for_each_frame(models, clip, tmp_path):
    out = tmp_path / "out"
    assert predict(models / "pose", clip, "--out", out, "--start", "0.1", "--end", "0.3") == 0
    lines = [json.loads(line) for line in (out / "clip_pose.jsonl").read_text().splitlines()]
    assert [(line["frame"], line["time"]) for line in lines] == [(0, 0.12), (1, 0.13)]
    assert [person["track_id"] for line in lines for person in line["people"]] == [1, 1]
    assert len(lines[0]["people"][0]["keypoints"]) == 17
    # The cut begins at 0.
    assert read_clip(out / "clip_skeleton.mp4")[0] == [0, 0.01]


def test_images_and_clips_of_one_name_do_not_collide(models, clip, tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    clip.rename(folder / "same.mp4")
    Image.fromarray(plain_frames(1, 48, 64)[0]).save(folder / "same.png")
    assert predict(models / "segmentation", folder, "--out", out) == 0
    assert "1 of 1 image and 1 of 1 video predicted" in capsys.readouterr().out
    names = {path.name for path in out.iterdir()}
    assert names >= {"same_labels.png", "same_classes.json", "in_same_mp4_overlay.mp4", "in_same_mp4_classes.json"}


@pytest.mark.slow
def test_a_folder_of_frames_is_a_video_only_with_fps(models, tmp_path, capsys):
    folder, out = tmp_path / "frames", tmp_path / "out"
    folder.mkdir()
    for number, image in enumerate(plain_frames(11, 32, 48)):
        Image.fromarray(image).save(folder / f"f{number}.png")
    assert predict(models / "depth", folder, "--fps", "10", "--out", out, "--no-legend", "--temporal", "off") == 0
    times, _ = read_clip(out / "frames_depth.mp4")
    assert times == [number / 10 for number in range(11)]
    assert predict(models / "depth", folder, "--out", tmp_path / "images") == 0
    assert "11 of 11 images predicted" in capsys.readouterr().out


def test_frames_that_do_not_fit_are_named(models, tmp_path, capsys):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, size in enumerate([(32, 48), (32, 40), (32, 48)]):
        Image.fromarray(plain_frames(1, *size)[0]).save(folder / f"f{number}.png")
    (folder / "f3.png").write_text("no image")
    assert predict(models / "depth", folder, "--fps", "10", "--out", tmp_path / "out") == 1
    said = capsys.readouterr()
    assert "1 of 1 video predicted" in said.out
    assert "f1.png is 32x40; expected 32x48, like the first" in said.err
    assert "f3.png" in said.err
    assert read_clip(tmp_path / "out/frames_depth.mp4")[0] == [0, 0.2]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "nothing to predict: give images, folders, videos, or --camera 0"),
        (["photo.png", "--every", "2"], "--every applies only to videos, but no input is a video"),
        (["photo.png", "--temporal", "off"], "--temporal applies only to videos, but no input is a video"),
        (["photo.png", "--fps", "5"], "--fps applies only to folders of frames: photo.png is a file"),
        (["clip.mp4", "--start", "2", "--end", "1"], "end is 1 seconds, start 2; expected a later end"),
        (["clip.mp4", "--start", "7"], "clip.mp4 has no frame in the selected time"),
        (["clip.mp4", "--point-cloud", "ply"], "--point-cloud applies only to images, but an input is a video"),
        (["clip.mp4", "--white-level", "9"], "--white-level applies only to images, but every input is a video"),
        (["gone.mp4"], "cannot read gone.mp4 as video: No such file or directory"),
        (["text.mp4"], "cannot read text.mp4 as video: Invalid data found when processing input"),
        (["--camera", "77"], "camera 77 cannot be opened: check that it is connected and not in use"),
    ],
)
def test_bad_input_is_one_line(models, clip, tmp_path, monkeypatch, capfd, words, line):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(plain_frames(1, 32, 32)[0]).save("photo.png")
    (tmp_path / "text.mp4").write_text("no video" * 100)
    assert predict(models / "depth", *words, "--out", "out") == 2
    errors = [each for each in capfd.readouterr().err.splitlines() if each.startswith("error: ")]
    assert len(errors) == 1
    assert line in errors[0]
    assert not list(tmp_path.glob("out/*"))


def test_boxes_are_for_images(models, clip, tmp_path, capsys):
    (tmp_path / "boxes.json").write_text("[]")
    assert predict(models / "pose", clip, "--boxes", tmp_path / "boxes.json", "--out", tmp_path / "out") == 2
    assert "--boxes applies only to images, but an input is a video: pass --detector" in capsys.readouterr().err


def test_a_broken_clip_does_not_stop_the_others(models, clip, tmp_path, capsys):
    (tmp_path / "broken.mp4").write_bytes(clip.read_bytes()[:500])
    assert predict(models / "depth", tmp_path / "broken.mp4", clip, "--out", tmp_path / "out") == 1
    said = capsys.readouterr()
    assert "1 of 2 videos predicted" in said.out
    assert "error: cannot read" in said.err


def test_without_av_a_line_says_what_to_install(models, clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "av", None)
    assert predict(models / "depth", clip, "--out", tmp_path / "out") == 2
    assert "pip install 'metaprompts[video]'" in capsys.readouterr().err


def test_a_camera_is_predicted_until_the_end(models, tmp_path, monkeypatch):
    class Capture(SimpleNamespace):
        def __init__(self, number):
            super().__init__(isOpened=lambda: number == 3, release=lambda: None, get=lambda key: 0.0)

        def read(self):
            return True, plain_frames(1, 32, 48)[0][..., ::-1]

    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    clock = count()
    monkeypatch.setattr("metaprompts.data.io.video.open.time", SimpleNamespace(monotonic=lambda: next(clock) / 16))
    out = tmp_path / "out"
    assert predict(models / "depth", "--camera", "3", "--end", "0.2", "--out", out, "--no-legend") == 0
    times, frames = read_clip(out / "camera3_depth.mp4")
    assert frames[0].shape == (32, 48, 3)
    assert times == [0, 0.125, 0.1875]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_playable_clip(models, clip, tmp_path, monkeypatch, capsys, interruptible, number):
    write, out = outputs.VideoOutput.write, tmp_path / "out"

    def write_and_interrupt(self, frame, prediction, numbers=()):
        write(self, frame, prediction, numbers)
        if self.frames == 3:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(outputs.VideoOutput, "write", write_and_interrupt)
    assert predict(models / "pose", clip, "--out", out) == 130
    said = capsys.readouterr().err
    assert f"{clip}: stopped, 3 frames in {out / 'clip_skeleton.mp4'}" in said
    assert said.endswith("interrupted\n")
    assert len(read_clip(out / "clip_skeleton.mp4")[0]) == 3
    assert len((out / "clip_pose.jsonl").read_text().splitlines()) == 3
    assert len(list(out.iterdir())) == 2
