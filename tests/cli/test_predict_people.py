"""People in whole images: ``metaprompts predict --detector``."""

import json

import numpy as np
import pytest
from PIL import Image

import metaprompts
from metaprompts.cli import main
from metaprompts.errors import InputError
from metaprompts.inference.detectors.base import PersonDetector
from metaprompts.models import detectors

LEFT, RIGHT = (5, 5, 30, 50, 0.9), (45, 5, 30, 50, 0.8)


class ByBrightness:
    """Two people in bright images, nobody in black ones; fails in white ones."""

    default_score = 0.5

    def __call__(self, image):
        if image.min() == 255:
            raise InputError("detector stub fails")
        return np.array([LEFT, RIGHT, (*LEFT[:4], 0.7)] if image.any() else np.zeros((0, 5)), np.float32)


@pytest.fixture
def find(models, tmp_path, capsys, monkeypatch):
    """Predict two images, one without people; gives the exit code, the boxes by file, and the printed lines."""
    monkeypatch.setattr(detectors, "_load", lambda source, device: ByBrightness())
    for name, value in (("a", 100), ("b", 0)):
        Image.new("RGB", (80, 64), (value,) * 3).save(tmp_path / f"{name}.png")

    def run(*words, model="pose"):
        out = tmp_path / "out"
        code = main(
            ["predict", str(models / model), f"{tmp_path}/*.png", "--out", str(out), "--engine", "plain", *words]
        )
        poses = out / "poses.json"
        content = json.loads(poses.read_text()) if poses.exists() else {"images": [], "annotations": []}
        names = {image["id"]: image["file_name"] for image in content["images"]}
        found = [(names[person["image_id"]], person["bbox"][0]) for person in content["annotations"]]
        return code, found, capsys.readouterr()

    return run


def test_each_person_is_an_entry_and_images_without_are_counted(find, tmp_path):
    code, found, printed = find("--detector", "any")
    assert code == 0
    assert found == [("a.png", 5), ("a.png", 45)], "the duplicate box is left out"
    assert "2 of 2 images predicted, 2 people found, nobody in 1 image, results in" in printed.out
    assert "whole person" not in printed.err
    nobody = json.loads((tmp_path / "out/b_pose.json").read_text())
    assert nobody["annotations"] == []
    assert nobody["images"][0]["file_name"] == "b.png"


def test_nobody_anywhere_is_no_error(find, tmp_path):
    (tmp_path / "a.png").unlink()
    code, found, printed = find("--detector", "any")
    assert (code, found) == (0, [])
    assert "1 of 1 image predicted, 0 people found, nobody in 1 image" in printed.out


@pytest.mark.slow
def test_options_of_detectors(find):
    assert find("--detector", "any", "--max-people", "1")[1] == [("a.png", 5)]
    more = find("--detector", "any", "--detector-nms", "1", "--oks-nms", "1")[1]
    assert more == [("a.png", 5), ("a.png", 45), ("a.png", 5)]


def test_an_image_in_which_the_detector_fails(find, tmp_path):
    Image.new("RGB", (80, 64), (255,) * 3).save(tmp_path / "c.png")
    code, found, printed = find("--detector", "any")
    assert code == 1
    assert len(found) == 2
    assert "error: detector stub fails" in printed.err


@pytest.mark.slow
def test_without_options_the_whole_image_is_one_person_and_that_is_said_once(find):
    """A photograph of a crowd came back with one skeleton, and nothing said why."""
    code, found, printed = find()
    assert code == 0
    assert found == [("a.png", 0), ("b.png", 0)]
    assert printed.err.count("each image is assumed to show one whole person: pass --detector") == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--detector", "any", "--boxes", "PEOPLE"], "--boxes and --detector both locate people"),
        (["--detector", "any", "--min-box-score", "0.5"], "--min-box-score requires --boxes"),
        (["--detector", "any", "--box-category", "dog"], "--box-category requires --boxes"),
        (["--boxes", "PEOPLE", "--max-people", "3"], "--max-people requires --detector"),
        (["--detector-score", "0.5"], "--detector-score requires --detector"),
        (["--detector-nms", "0.5"], "--detector-nms requires --detector"),
        (["--oks-nms", "0.5"], "--oks-nms requires --detector or --boxes"),
        (["--detector", "any", "--detector-score", "1.5"], "1.5"),
        (["--detector", "any", "--max-people", "0"], "0"),
    ],
)
def test_options_that_contradict_each_other(find, data, words, line):
    code, found, printed = find(*(str(data / "people.json") if word == "PEOPLE" else word for word in words))
    assert (code, found) == (2, [])
    assert line in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("option", ["--detector", "--detector-score", "--detector-nms", "--max-people", "--oks-nms"])
def test_options_of_detectors_are_for_pose(find, option):
    code, _, printed = find(option, "1", model="depth")
    assert code == 2
    assert f"{option} applies only to pose," in printed.err


def test_a_detector_that_does_not_exist(models, data, tmp_path, capsys):
    words = [str(models / "pose"), str(data / "images"), "--out", str(tmp_path / "out"), "--detector", "nothing"]
    assert main(["predict", *words]) == 2
    assert "error: detector nothing: no model at nothing" in capsys.readouterr().err
    assert main(["predict", *words[:-1], str(models / "depth")]) == 2
    assert "predicts depth; expected a segmentation model with the class person" in capsys.readouterr().err


@pytest.mark.slow
def test_from_python_a_detector_stands_for_boxes(models):
    image = np.full((64, 80, 3), 100, np.uint8)
    detector = PersonDetector(detector=ByBrightness())
    model = metaprompts.load(models / "pose", "cpu")
    people = model.predict(image, boxes=detector).people
    assert [person.box_xywh[0] for person in people] == [5, 45]
    assert [person.score for person in people] == pytest.approx([0.9, 0.8])
    given = model.predict(image, boxes=detector(image)).people
    assert (given[1].keypoints == people[1].keypoints).all()
    assert [len(each.people) for each in model.predict_many([(image, detector), (image * 0, detector)])] == [2, 0]
    with pytest.raises(InputError, match="a detector applies only to pose, but the model predicts depth"):
        metaprompts.load(models / "depth", "cpu").predict(image, boxes=detector)
