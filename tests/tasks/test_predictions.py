import io
import json
import logging
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from metaprompts.errors import InputError
from metaprompts.tasks.predictions import (
    DepthPrediction,
    PersonPose,
    PosePrediction,
    SegmentationPrediction,
)
from metaprompts.visualize.pose import LEFT, MIDDLE, RIGHT
from metaprompts.visualize.segmentation import class_colors

IMAGE = np.full((2, 3, 3), 100, np.uint8)
DEPTH = np.array([[1.0, 2.3456, 65.535], [65.6, np.nan, 0.0001]], dtype=np.float32)


def depth(**changes):
    return DepthPrediction(**({"depth_m": DEPTH, "image": IMAGE} | changes))


def segmentation(**changes):
    labels = np.array([[0, 0, 2], [2, 2, 255]], dtype=np.uint8)
    return SegmentationPrediction(**({"labels": labels, "classes": ("sky", "road", "car"), "image": IMAGE} | changes))


def pose(people=1):
    person = PersonPose(
        keypoints=np.array([[1.5, 2.0], [3.0, 4.0]], np.float32),
        scores=np.array([0.5, 0.25], np.float32),
        box_xywh=(0.0, 1.0, 10.0, 20.0),
        score=0.75,
    )
    return PosePrediction(
        people=(person,) * people,
        joints=("left_hip", "left_knee"),
        skeleton=((0, 1),),
        image=np.zeros((9, 9, 3), np.uint8),
    )


def names(paths):
    return [path.name for path in paths]


def test_depth_is_saved_in_millimeters(tmp_path, caplog):
    """Rounded; 0 for no depth only; what is farther than 16 bits reach saturates and is reported."""
    with caplog.at_level(logging.WARNING):
        paths = depth().save(tmp_path / "new", "a")
    assert names(paths) == ["a_depth.png", "a_depth_color.png"]
    read = cv2.imread(str(paths[0]), cv2.IMREAD_UNCHANGED)
    assert read.dtype == np.uint16
    assert read.tolist() == [[1000, 2346, 65535], [65535, 0, 1]]
    assert f"{paths[0]}: 1 pixel is farther than 65.535 m, saved as 65.535 m" in caplog.text


def test_invalid_depth_is_zero_and_near_depth_warns_of_nothing(tmp_path, caplog):
    near = np.full((2, 3), 2.0, np.float32)
    with caplog.at_level(logging.WARNING):
        paths = depth(depth_m=near, valid=np.array([[True, False, True]] * 2)).save(tmp_path, "a")
    assert cv2.imread(str(paths[0]), cv2.IMREAD_UNCHANGED)[0].tolist() == [2000, 0, 2000]
    assert caplog.text == ""


def test_raw_depth_keeps_every_digit(tmp_path):
    paths = depth().save(tmp_path, "a", raw=True)
    assert names(paths)[2:] == ["a_depth.npy"]
    read = np.load(paths[2])
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, DEPTH)


def test_infinite_depth_saturates(tmp_path):
    paths = depth(depth_m=np.full((2, 3), np.inf, np.float32)).save(tmp_path, "a")
    assert (cv2.imread(str(paths[0]), cv2.IMREAD_UNCHANGED) == 65535).all()


def test_depth_is_shown_with_meters_below():
    assert depth().show(legend=False).size == (3, 2)
    shown = depth().show()
    assert shown.width >= 160
    assert shown.height > 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth_m": np.zeros((1, 2, 3), np.float32)}, "expected the image's size"),
        ({"valid": np.ones((3, 2), bool)}, "valid is \\(3, 2\\)"),
        ({"image": np.zeros((2, 3, 3), np.float32)}, "expected uint8"),
        ({"image": np.zeros((2, 3), np.uint8)}, "expected uint8"),
    ],
)
def test_depth_of_another_size_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        depth(**changes)


def test_shares_are_of_the_whole_image():
    assert segmentation().shares() == pytest.approx({"sky": 2 / 6, "car": 3 / 6})


def test_labels_read_back_as_indices_and_show_as_colors(tmp_path):
    paths = segmentation().save(tmp_path, "a")
    assert names(paths) == ["a_labels.png", "a_overlay.png", "a_classes.json"]
    image = Image.open(paths[0])
    assert image.mode == "P"
    assert np.asarray(image).tolist() == [[0, 0, 2], [2, 2, 255]]
    colors = np.asarray(image.convert("RGB"))
    assert colors[0, 0].tolist() != colors[0, 2].tolist()
    assert colors[1, 2].tolist() == [0, 0, 0]
    sky, road, car = (f"#{bytes(color).hex()}" for color in class_colors(("sky", "road", "car")))
    assert json.loads(paths[2].read_text()) == {
        "0": {"name": "sky", "share": pytest.approx(2 / 6), "color": sky},
        "1": {"name": "road", "share": 0, "color": road},
        "2": {"name": "car", "share": pytest.approx(3 / 6), "color": car},
    }
    assert bytes(colors[0, 0]).hex() == sky[1:]


EXAMPLES = [
    lambda side: depth(depth_m=np.linspace(1, 9, side * side, dtype=np.float32).reshape(side, side), **photo(side)),
    lambda side: segmentation(labels=np.arange(side * side).reshape(side, side).astype(np.uint8) % 3, **photo(side)),
    lambda side: replace(pose(), **photo(side)),
]


def photo(side):
    return {"image": np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)}


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize("side", [64, 500])
def test_images_explain_themselves(tmp_path, example, side):
    """Saved overlays had no legend: nobody could tell which color was which class, or how many meters."""
    prediction = example(side)
    saved, bare = (
        next(path for path in prediction.save(tmp_path, name, legend=name == "a") if _is_for_people(path))
        for name in "ab"
    )
    with_legend, without = np.asarray(Image.open(saved)), np.asarray(Image.open(bare))
    assert without.shape == (side, side, 3)
    assert with_legend.shape[1] == max(side, 160)
    assert with_legend.shape[0] > side
    assert (with_legend[:side, :side] == without).all(), "the image is not shown at its own size"
    assert with_legend[side:].min() < 100, "no text below"
    assert (np.asarray(prediction.show()) == with_legend).all()


def _is_for_people(path):
    return path.name.endswith(("_overlay.png", "_depth_color.png", "_skeleton.png"))


def test_the_legend_has_the_colors_of_the_classes_that_occur():
    shown = np.asarray(segmentation(labels=np.array([[0, 0, 2], [2, 2, 2]], np.uint8)).show())[2:]
    found = {tuple(color) for color in shown.reshape(-1, 3).tolist()}
    sky, road, car = (tuple(color) for color in class_colors(("sky", "road", "car")).tolist())
    assert {sky, car} <= found
    assert road not in found


def test_people_that_are_not_drawn_are_reported(tmp_path):
    """A photograph came back as it was where all joints scored below 0.3: was there nobody, or nothing done?"""
    assert pose().unseen() is None
    assert pose().unseen(0.6) == "no joint scores at least 0.6 (the highest 0.5): no skeleton is drawn"
    assert pose(people=0).unseen() == "no person found"
    some = replace(pose(2), people=(pose().people[0], replace(pose().people[0], scores=np.zeros(2, np.float32))))
    assert some.unseen() == "1 of 2 people without a skeleton: no joint scores at least 0.3"
    drawn, hidden = (np.asarray(pose().show(min_score=score, boxes=False))[:9, :9] for score in (0.3, 0.6))
    assert drawn.any()
    assert not hidden.any()


@pytest.mark.parametrize("classes", [1, 2, 5, 19, 256])
def test_every_index_survives_whatever_bits_the_file_takes(tmp_path, classes):
    labels = (np.arange(6) % classes).astype(np.uint8).reshape(2, 3)
    saved = segmentation(labels=labels, classes=tuple(map(str, range(classes)))).save(tmp_path, "a")
    assert np.asarray(Image.open(saved[0])).tolist() == labels.tolist()


def test_many_classes_take_sixteen_bits(tmp_path):
    labels = np.array([[0, 255, 256], [299, 65535, 1]], dtype=np.uint16)
    paths = segmentation(labels=labels, classes=tuple(map(str, range(300)))).save(tmp_path, "a")
    read = cv2.imread(str(paths[0]), cv2.IMREAD_UNCHANGED)
    assert read.dtype == np.uint16
    assert (read == labels).all()


def test_confidence_is_saved_when_raw(tmp_path):
    confidence = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    assert len(segmentation(confidence=confidence).save(tmp_path, "a")) == 3
    assert len(segmentation().save(tmp_path, "a", raw=True)) == 3
    paths = segmentation(confidence=confidence).save(tmp_path, "a", raw=True)
    assert paths[3].name == "a_confidence.npy"
    np.testing.assert_array_equal(np.load(paths[3]), confidence)


def test_segmentation_is_shown_with_its_names():
    plain, named = segmentation().show(legend=False), segmentation().show()
    assert plain.size == (3, 2)
    assert named.width >= 160
    assert segmentation(labels=np.full((2, 3), 255, np.uint8)).show().size == (3, 2)


def test_labels_must_be_indices():
    with pytest.raises(InputError, match="expected uint8 or uint16"):
        segmentation(labels=np.zeros((2, 3), np.int64))


def test_pose_is_saved_with_names_once(tmp_path):
    paths = pose(people=2).save(tmp_path, "a", raw=True)
    assert names(paths) == ["a_pose.json", "a_skeleton.png"]
    content = json.loads(paths[0].read_text())
    assert [(entry["file_name"], entry["width"], entry["height"]) for entry in content["images"]] == [("a", 9, 9)]
    (category,) = content["categories"]
    assert category["keypoints"] == ["left_hip", "left_knee"]
    assert category["skeleton"] == [[1, 2]]
    assert [person["id"] for person in content["annotations"]] == [1, 2]
    for person in content["annotations"]:
        assert person["keypoints"] == [1.5, 2.0, 2.0, 3.0, 4.0, 2.0]
        assert person["keypoint_scores"] == [0.5, 0.25]
        assert person["bbox"] == [0, 1, 10, 20]
        assert person["area"] == 200
        assert person["score"] == 0.75


def test_the_name_of_the_image_is_in_the_file(tmp_path):
    """The stem, 000001, was listed as the file name, so that no tool found the image."""
    path = pose().save(tmp_path, "000001", file_name="street/000001.png")[0]
    assert json.loads(path.read_text())["images"][0]["file_name"] == "street/000001.png"


def test_boxes_of_located_people_are_drawn():
    """Skeleton images had no boxes, so a wrong box could not be told from wrong joints."""
    size = (60, 80)
    person = replace(pose().people[0], box_xywh=(20.0, 30.0, 40.0, 25.0), scores=np.zeros(2, np.float32))
    located = replace(pose(), people=(person,), image=np.zeros((*size, 3), np.uint8))
    drawn = np.asarray(located.show(legend=False)).any(-1)
    assert drawn[30:55, 20].all(), "left edge"
    assert drawn[54, 20:60].all(), "lower edge"
    assert drawn[:30].any(), "the score"
    assert not drawn[:, :19].any()
    assert not drawn[45:54, 21:59].any(), "the inside stays visible"
    unscored = np.asarray(replace(located, people=(replace(person, score=1.0),)).show(legend=False)).any(-1)
    assert not unscored[:29].any(), "annotated boxes have no score"
    assert not np.asarray(located.show(legend=False, boxes=False)).any()
    whole = replace(person, box_xywh=(0.0, 0.0, 80, 60))
    assert not np.asarray(replace(located, people=(whole,)).show(legend=False)).any()


@pytest.mark.parametrize(
    "box", [(-30.0, -30.0, 200.0, 200.0), (70.0, 50.0, 9.0, 9.0), (0.0, 0.0, 1.0, 1.0), (200, 9, 5, 5)]
)
def test_boxes_may_reach_beyond_the_image(box):
    far = replace(pose(), people=(replace(pose().people[0], box_xywh=box),), image=np.zeros((60, 80, 3), np.uint8))
    assert far.show(legend=False).size == (80, 60)
    assert pose().show(legend=False).size == (9, 9), "smaller than the score"


def test_pose_of_nobody_has_no_colors_in_the_legend():
    """An image without people had a legend of left and right."""
    colors = {color for _, color in pose(people=0).show().getcolors(10**6)}
    assert not colors & {LEFT, RIGHT, MIDDLE}
    assert pose(people=0).show().height > 9
    assert {LEFT} <= {color for _, color in pose().show().getcolors(10**6)}


def test_pose_of_nobody_is_the_image(tmp_path):
    assert not np.asarray(pose(people=0).show(legend=False)).any()
    assert np.asarray(pose().show(legend=False)).any()
    assert json.loads(pose(people=0).save(tmp_path, "a")[0].read_text())["annotations"] == []


def test_people_must_have_the_joints_that_are_named():
    with pytest.raises(InputError, match="2 keypoints; expected 1"):
        PosePrediction(people=pose().people, joints=("nose",), skeleton=(), image=IMAGE)
    with pytest.raises(InputError, match="expected \\(J,2\\) and J"):
        PersonPose(keypoints=np.zeros((3, 2)), scores=np.zeros(2), box_xywh=(0, 0, 1, 1), score=1)


def test_a_folder_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        depth().save(tmp_path / "file", "a")


def test_a_notebook_shows_what_show_draws():
    image = np.zeros((8, 8, 3), np.uint8)
    shown = DepthPrediction(depth_m=np.ones((8, 8), np.float32), image=image)
    read = Image.open(io.BytesIO(shown._repr_png_()))
    assert np.array_equal(np.array(read), np.array(shown.show()))
