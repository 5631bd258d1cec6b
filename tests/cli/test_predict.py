import json
import re
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from metaprompts.cli import inputs, main
from metaprompts.cli.boxes import Boxes
from metaprompts.cli.output_names import listed_names, output_names
from metaprompts.cli.people import People
from metaprompts.cli.prediction_groups import predict_group, read_group
from metaprompts.data.io import decoding
from metaprompts.data.io.image_matching import match_images
from metaprompts.data.io.images import list_images
from metaprompts.errors import InputError
from metaprompts.models.loading import load


@pytest.fixture
def images(tmp_path):
    """Five readable images of all kinds, and four that are not."""
    folder = tmp_path / "in"
    folder.mkdir()
    random = np.random.default_rng(0).integers(0, 255, (40, 60, 4), dtype=np.uint8)
    Image.fromarray(random[..., :3]).save(folder / "color.jpg")
    Image.fromarray(random).save(folder / "alpha.png")
    Image.fromarray(random[..., 0]).save(folder / "gray.png")
    Image.fromarray(random[..., 0].astype(np.uint16) * 256).save(folder / "deep.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(random[..., :3]).save(folder / "turned.jpg", exif=turned)
    whole = (folder / "color.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("no image")
    return folder


def test_one_bad_file_does_not_stop_the_others(models, images, tmp_path, capsys):
    out = tmp_path / "out"
    code = main(["predict", str(models / "depth"), str(images), str(tmp_path / "gone.png"), "--out", str(out), "--raw"])
    captured = capsys.readouterr()
    assert code == 1
    assert "5 of 9 images predicted" in captured.out
    engine, rate, *errors = captured.err.splitlines()
    assert engine.startswith("engine: eager, fp32 (")
    assert re.fullmatch(r"\d+\.\d\d images/s, \d+% of the time predicting", rate)
    assert [line.startswith("error: ") for line in errors] == [True] * 4
    assert all(name in captured.err for name in ("cut.jpg", "empty.png", "text.png", "gone.png"))
    assert len(list(out.iterdir())) == 5 * 3


@pytest.mark.slow
def test_many_images_in_windows_of_any_size_are_not_converted_for(models, tmp_path, capsys):
    """OpenVINO, which auto takes for many images, takes multiples of 64 only."""
    for number in range(20):
        Image.new("RGB", (80, 70), (number, 0, 0)).save(tmp_path / f"{number}.png")
    words = ["predict", str(models / "depth"), f"{tmp_path}/*.png", "--window", "70,80", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    printed = capsys.readouterr().err
    assert "engine: eager, fp32 (" in printed
    assert "asked for" not in printed


def test_nothing_readable_is_bad_input(models, images, tmp_path, capsys):
    words = ["predict", str(models / "depth"), str(images / "text.png"), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == "", "0 of 1 image predicted came before the error"
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1


def test_depth_is_at_the_images_own_size_and_in_millimeters(models, images, tmp_path):
    out = tmp_path / "out"
    assert main(["predict", str(models / "depth"), str(images / "turned.jpg"), "--out", str(out), "--raw"]) == 0
    stored = np.asarray(Image.open(out / "turned_depth.png"))
    exact = np.load(out / "turned_depth.npy")
    assert stored.shape == exact.shape == (60, 40)
    assert stored.dtype == np.uint16
    np.testing.assert_allclose(stored, exact * 1000, atol=0.51)


@pytest.mark.slow
def test_batches_give_what_single_images_give(models, images, tmp_path):
    for size in ("1", "3"):
        arguments = [str(images / "*.jp*g"), str(images / "gray.png"), "--out", str(tmp_path / size), "--raw"]
        main(["predict", str(models / "depth"), *arguments, "--batch-size", size])
    for path in (tmp_path / "1").glob("*.npy"):
        np.testing.assert_allclose(np.load(path), np.load(tmp_path / "3" / path.name), rtol=1e-4)
    assert len(list((tmp_path / "1").glob("*.npy"))) == 3


def test_segmentation_writes_indices_overlay_and_names(models, images, tmp_path):
    assert main(["predict", str(models / "segmentation"), str(images / "alpha.png"), "--out", str(tmp_path / "o")]) == 0
    labels = Image.open(tmp_path / "o/alpha_labels.png")
    assert labels.size == (60, 40)
    assert set(np.unique(np.asarray(labels))) <= {0, 1}
    assert Image.open(tmp_path / "o/alpha_overlay.png").mode == "RGB"
    assert "ground" in (tmp_path / "o/alpha_classes.json").read_text() + "ground"


def test_pose_of_boxes_is_a_coco_file(models, data, tmp_path):
    out = tmp_path / "out"
    arguments = [str(data / "images"), "--out", str(out), "--boxes", str(data / "people.json")]
    assert main(["predict", str(models / "pose"), *arguments]) == 0
    truth = json.loads((data / "people.json").read_text())
    found = COCO(str(out / "poses.json"))
    assert sorted(found.getImgIds()) == [1, 2, 3, 4]
    for person in truth["annotations"]:
        (predicted,) = found.loadAnns(found.getAnnIds(person["image_id"]))
        assert predicted["bbox"] == person["bbox"]
        assert len(predicted["keypoints"]) == 17 * 3
    assert len(list(out.glob("*_skeleton.png"))) == 4


@pytest.mark.slow
def test_a_limit_for_joints_is_kept_and_reported(models, data, tmp_path, capsys):
    image = str(data / "images/002.png")
    words = ["predict", str(models / "pose"), image, "--out", str(tmp_path), "--engine", "plain", "--min-score"]
    assert main([*words, "1"]) == 0
    assert f"{image}: no joint scores at least 1 (the highest" in capsys.readouterr().err
    hidden, content = ((tmp_path / f"002_{name}").read_bytes() for name in ("skeleton.png", "pose.json"))
    assert main([*words, "0"]) == 0
    assert "no joint" not in capsys.readouterr().err
    assert (tmp_path / "002_skeleton.png").read_bytes() != hidden
    assert (tmp_path / "002_pose.json").read_bytes() == content
    assert main([*words, "nan"]) == 2
    assert "Invalid value for '--min-score': nan is not a finite number" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--boxes", "--box-category", "--min-box-score", "--min-score"])
@pytest.mark.parametrize("task", ["depth", "segmentation"])
def test_options_of_pose_are_for_pose(models, data, tmp_path, capsys, option, task):
    """Boxes for a depth model were refused only once everything was read, or not at all."""
    words = [str(models / task), str(data / "images/002.png"), "--out", str(tmp_path / "o"), option, "0.1"]
    for command in ["predict"] if option == "--min-score" else ["predict", "heatmaps"]:
        assert main([command, *words]) == 2
        line = f"error: {option} applies only to pose, but {models / task} predicts {task}: omit it\n"
        assert capsys.readouterr().err == line
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("command", ["predict", "heatmaps"])
@pytest.mark.parametrize("value", ["nan", "-0.1", "1.5", "inf"])
def test_a_limit_for_boxes_is_a_score(models, data, tmp_path, capsys, command, value):
    """With nan every box was predicted, with 7 none, without a word about the number."""
    words = [str(models / "pose"), str(data / "images"), "--out", str(tmp_path / "o"), f"--min-box-score={value}"]
    assert main([command, *words, "--boxes", str(data / "people.json")]) == 2
    assert f"error: Invalid value for '--min-box-score': {value}" in capsys.readouterr().err


@pytest.mark.slow
def test_pose_without_boxes_is_of_the_whole_image(models, data, tmp_path):
    assert main(["predict", str(models / "pose"), str(data / "images/001.png"), "--out", str(tmp_path)]) == 0
    (person,) = json.loads((tmp_path / "poses.json").read_text())["annotations"]
    assert person["bbox"] == [0, 0, 80, 64]


@pytest.mark.slow
def test_boxes_of_detections_are_found_by_number(models, data, tmp_path):
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([{"image_id": 2, "bbox": [1, 2, 30, 40], "score": 0.5, "category_id": 1}] * 2))
    arguments = [
        str(data / "images/002.png"),
        str(data / "images/003.png"),
        "--out",
        str(tmp_path),
        "--boxes",
        str(boxes),
    ]
    assert main(["predict", str(models / "pose"), *arguments]) == 0
    people = json.loads((tmp_path / "poses.json").read_text())["annotations"]
    assert [(person["image_id"], person["score"]) for person in people] == [(2, 0.5), (2, 0.5)]


@pytest.fixture
def pose(models, tmp_path, capsys):
    """Predict images with boxes; gives the exit code, the people (image id, bbox) and the error output."""

    def predict(images, content, *options):
        (tmp_path / "boxes.json").write_text(json.dumps(content))
        capsys.readouterr()
        words = ["predict", str(models / "pose"), *map(str, images), "--out", str(tmp_path / "out"), *options]
        code = main([*words, "--boxes", str(tmp_path / "boxes.json"), "--engine", "plain"])
        out = tmp_path / "out/poses.json"
        found = json.loads(out.read_text()) if out.is_file() else {"images": [], "annotations": []}
        people = [(person["image_id"], person["bbox"]) for person in found["annotations"]]
        return code, people, {image["id"]: image["file_name"] for image in found["images"]}, capsys.readouterr().err

    return predict


def placed(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 64)).save(folder / name)
    return [folder / name for name in names]


LEFT, RIGHT = [0, 0, 30, 60], [40, 0, 30, 60]


def listed(*names, **more):
    images = [{"id": number, "file_name": name} for number, name in enumerate(names, 1)]
    boxes = [
        {"id": number, "image_id": number, "category_id": 1, "bbox": box} for number, box in ((1, LEFT), (2, RIGHT))
    ]
    return {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "person"}], **more}


@pytest.mark.parametrize(
    "names",
    [
        ("a/x.jpg", "b/x.jpg"),
        pytest.param(("v/a/x.jpg", "v/b/x.jpg"), marks=pytest.mark.slow),
        pytest.param(("a\\x.jpg", "b\\x.jpg"), marks=pytest.mark.slow),
    ],
)
def test_boxes_of_images_with_the_same_name(pose, tmp_path, caplog, names):
    """Of a/x.jpg and b/x.jpg both got the box of the last one in the file."""
    placed(tmp_path, "b/x.jpg", "a/x.jpg")
    code, people, files, _ = pose([tmp_path], listed(*names))
    assert (code, people) == (0, [(1, LEFT), (2, RIGHT)])
    assert files == {1: names[0], 2: names[1]}


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["s1", "s2"], ["s1/a.jpg", "b.jpg", "s2/a.jpg"]),
        (["t"], ["t/a.jpg", "deep/c.jpg", "deep/a.jpg"]),
        (["u/x/v", "u/y/v"], ["x/v/a.jpg", "y/v/a.jpg"]),
        (["s1/a.jpg", "s2", "t"], ["s1/a.jpg", "s2/a.jpg", "t/a.jpg", "deep/c.jpg", "deep/a.jpg"]),
    ],
)
def test_names_in_a_file_of_poses_find_their_images(tmp_path, monkeypatch, inputs, expected):
    """`predict s1 s2` listed a.jpg of both as a.jpg, and `--boxes poses.json` then refused its own file."""
    placed(tmp_path, "s1/a.jpg", "s1/b.jpg", "s2/a.jpg", "t/a.jpg", "t/deep/c.jpg", "t/deep/a.jpg")
    placed(tmp_path, "u/x/v/a.jpg", "u/y/v/a.jpg")
    monkeypatch.chdir(tmp_path)
    paths = list_images(inputs)
    names = listed_names(output_names(inputs, paths))
    assert sorted(names.values()) == sorted(expected)
    numbers = dict(enumerate(names.values()))
    assert match_images(paths, numbers, Path("poses.json")) == {path: row for row, path in enumerate(names)}


@pytest.mark.slow
def test_poses_are_boxes_of_the_same_images(models, tmp_path, capsys):
    placed(tmp_path, "s1/a.jpg", "s2/a.jpg")
    words = ["predict", str(models / "pose"), str(tmp_path / "s1"), str(tmp_path / "s2"), "--engine", "plain"]
    assert main([*words, "--out", str(tmp_path / "po")]) == 0
    assert main([*words, "--out", str(tmp_path / "again"), "--boxes", str(tmp_path / "po/poses.json")]) == 0
    first, second = (json.loads((tmp_path / name / "poses.json").read_text())["images"] for name in ("po", "again"))
    assert first == second
    assert [image["file_name"] for image in first] == ["s1/a.jpg", "s2/a.jpg"]


@pytest.mark.parametrize(
    ("images", "content", "words"),
    [
        (("a/x.jpg", "b/x.jpg"), listed("x.jpg", "y.jpg"), "a/x.jpg and .*b/x.jpg are both image 1 of .*boxes.json"),
        (("c/x.jpg",), listed("a/x.jpg", "b/x.jpg"), r"c/x.jpg may be image 1 \(a/x.jpg\) or 2 \(b/x.jpg\)"),
        (("a/f_01.jpg", "b/f_1.jpg"), [{"image_id": 1, "bbox": LEFT}], "a/f_01.jpg and .*b/f_1.jpg are both image 1"),
        (("a.jpg",), listed("a.jpg", "a.jpg"), "2 images have the file_name a.jpg"),
        (("a.jpg",), listed("a.jpg", categories=[{"id": 1, "name": "cat"}] * 2), "2 categories have the id 1"),
        (("a.jpg",), listed("a.jpg", categories=[{"id": 1, "name": "x"}, {"id": 2}]), "x, 2, none of them person"),
        (("a.jpg",), [{"image_id": 1, "category_id": 0, "bbox": LEFT}], "no usable box: 1 of category 0; .*--box-cat"),
    ],
)
def test_images_and_people_that_are_not_distinguished(pose, tmp_path, images, content, words):
    code, people, _, error = pose(placed(tmp_path, *images), content)
    assert (code, people) == (2, [])
    assert re.search(words, error.splitlines()[-1])


def test_a_image_that_the_file_has_by_another_folder_only(pose, tmp_path):
    """The file has a/x.jpg, and nothing of b."""
    placed(tmp_path, "a/x.jpg", "b/x.jpg")
    code, people, _, error = pose([tmp_path], listed("a/x.jpg", "c/y.jpg"))
    assert (code, people) == (1, [(1, LEFT)])
    assert "b/x.jpg is not in" in error


@pytest.mark.slow
def test_boxes_for_images_of_another_size(pose, tmp_path, capsys):
    """An image of 80x64 that the file lists as 800x640 was predicted in boxes that did not lie on it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    images = placed(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg")
    for image in images[2:4]:
        Image.new("RGB", (80, 64)).save(image, exif=exif)
    content = listed(*(image.name for image in images))
    for entry, size in zip(content["images"], [(800, 640), (80, 64), (80, 64), (64, 80), (64, 80)], strict=True):
        entry.update(width=size[0], height=size[1])
    content["annotations"] = [
        {"id": number, "image_id": number, "category_id": 1, "bbox": [0, 0, 30, 60]} for number in range(1, 6)
    ]
    code, people, _, error = pose(images, content)
    assert (code, people) == (1, [(2, LEFT), (4, LEFT)])
    other, turned, swapped = (line for line in error.splitlines() if line.startswith("error: "))
    assert "a.jpg is 64x80 but its annotations are for 640x800 (height x width)" in other
    assert "c.jpg is 80x64 after its EXIF orientation 6 (rotated by 90 degrees), but its annotations" in turned
    assert "e.jpg is 64x80 but its annotations are for 80x64" in swapped
    words = [str(tmp_path / "a.jpg"), "--out", str(tmp_path / "o"), "--boxes", str(tmp_path / "boxes.json")]
    assert main(["heatmaps", "micro-pose", *words]) == 2
    assert "annotations are for 640x800" in capsys.readouterr().err


@pytest.mark.slow
def test_only_people_are_predicted(pose, tmp_path, caplog):
    """Skeletons were found in chairs, in crowds and in boxes of score 0.01, and one empty box ended all."""
    box = {"image_id": 1, "category_id": 1, "bbox": LEFT, "score": 0.9}
    rest = [{"category_id": 62}, {"iscrowd": 1}, {"score": 0.01}, {"bbox": [5, 5, 0, 0]}]
    images = placed(tmp_path, "1.jpg", "2.jpg")
    code, people, _, _ = pose(images, [box, *({**box, **changed} for changed in rest)])
    assert (code, people) == (0, [(1, LEFT)])
    counts = "1 of category 62, 1 of crowds, 1 with a score below 0.3 (--min-box-score), 1 smaller than one pixel"
    assert f"skipped boxes: {counts}" in caplog.text
    low = [box, {**box, "score": 0.01}, {**box, "category_id": 62}]
    assert len(pose(images, low, "--min-box-score", "0", "--box-category", "62", "--box-category", "1")[1]) == 3


@pytest.mark.slow
def test_categories_by_name(pose, tmp_path):
    """People by name, wherever they are in the list; without them whoever has joints, or the one asked for."""
    image = placed(tmp_path, "a.jpg")
    two = listed("a.jpg", categories=[{"id": 1, "name": "dog"}, {"id": 2, "name": "Person"}])
    two["annotations"][1].update(category_id=2, image_id=1)
    assert pose(image, two)[1] == [(1, RIGHT)]
    assert pose(image, two, "--box-category", "DOG")[1] == [(1, LEFT)]
    two["categories"][1] = {"id": 2, "name": "cat", "keypoints": ["nose"]}
    assert pose(image, two)[1] == [(1, RIGHT)]
    code, _, _, error = pose(image, two, "--box-category", "cow")
    assert (code, "--box-category is 'cow'; " in error, "has dog (1), cat (2)" in error) == (2, True, True)


@pytest.mark.slow
def test_boxes_that_are_corners_or_lie_outside(pose, tmp_path, caplog):
    """They were predicted without a warning."""
    images = placed(tmp_path, "1.jpg")
    boxes = [{"image_id": 1, "category_id": 1, "bbox": box} for box in ([30, 20, 60, 60], [80, 5, 9, 9])]
    assert pose(images, boxes[:1])[1] == [(1, [30, 20, 60, 60])]
    assert "1.jpg: 1 of 1 box end outside their images, but not if read as x1, y1, x2, y2" in caplog.text
    caplog.clear()
    assert pose(images, [{**boxes[0], "bbox": LEFT}, boxes[1]])[1] == [(1, LEFT)]
    assert "1 of 2 boxes lie mostly outside their images (the first: box 1, [80, 5, 9, 9]" in caplog.text
    assert "1 box outside the image skipped" in caplog.text


@pytest.mark.parametrize(
    "box", [[-60, -60, 40, 40], [-9, 5, 9, 9], [5, -9, 9, 9], [64, 5, 9, 9], [5, 80, 9, 9], [-1e6, -1e6, 1e6, 1e6]]
)
def test_boxes_on_any_side_of_the_image(tmp_path, caplog, box):
    """A box [-60, -60, 40, 40] was predicted, as only those to the right and below were left out."""
    (tmp_path / "boxes.json").write_text(json.dumps([{"image_id": 1, "bbox": each} for each in (LEFT, box)]))
    boxes = Boxes.read(tmp_path / "boxes.json", [Path("1.jpg")])
    assert boxes.of(Path("1.jpg"), (80, 64)) == [(*LEFT, 1.0)]
    assert "1 of 2 boxes lie mostly outside" in caplog.text
    assert "1 box outside the image skipped" in caplog.text


def test_scores_as_percent(tmp_path):
    (tmp_path / "boxes.json").write_text(json.dumps([{"image_id": 1, "bbox": LEFT, "score": 90}]))
    with pytest.raises(InputError, match="score is 90, not within 0 to 1"):
        Boxes.read(tmp_path / "boxes.json", [Path("1.jpg")])


def test_boxes_below_one_pixel(tmp_path, caplog):
    """A box [8, 8, 1e-6, 1e-6] was a person."""
    found = [{"image_id": 1, "bbox": box} for box in (LEFT, [8, 8, 1e-6, 1e-6], [8, 8, 40, 0.5])]
    (tmp_path / "boxes.json").write_text(json.dumps(found))
    assert Boxes.read(tmp_path / "boxes.json", [Path("1.jpg")]).of(Path("1.jpg"), (80, 64)) == [(*LEFT, 1.0)]
    assert "skipped boxes: 2 smaller than one pixel" in caplog.text


def test_boxes_of_no_image_are_reported(pose, tmp_path, caplog):
    assert pose(placed(tmp_path, "1.jpg"), [{"image_id": 7, "bbox": LEFT}])[:2] == (0, [])
    assert "boxes.json has no box for" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        *("{", "3", '[{"image_id": 1}]', '[{"image_id": 1, "bbox": [0, 0, 0, 5]}]'),
        *('[{"image_id": "1", "bbox": [0, 0, 9, 5]}]', '[{"image_id": 1, "bbox": ["0", "0", "9", "5"]}]'),
        *('[{"image_id": 1, "category_id": "1", "bbox": [0, 0, 9, 5]}]', "[[]]", '[{"image_id": 1, "bbox": null}]'),
        '{"images": [{"id": 1, "file_name": 7}], "annotations": []}',
        '[{"image_id": 1, "bbox": [NaN, 0, 9, 5]}]',
        '[{"image_id": 1, "bbox": [0, 0, 1e30, 1e30]}]',
        '[{"image_id": 1, "bbox": [0, 0, 9, 5], "score": NaN}]',
    ],
)
def test_bad_boxes_are_one_line(models, data, tmp_path, capsys, content):
    boxes = tmp_path / "boxes.json"
    boxes.write_text(content)
    arguments = [str(data / "images"), "--out", str(tmp_path / "o"), "--boxes", str(boxes)]
    assert main(["predict", str(models / "pose"), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(boxes) in error
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("others", [(), ("b",), ("a/x.jpg",), ("y.png", "c/*.png")])
def test_names_of_results_do_not_depend_on_the_other_inputs(tmp_path, others):
    """x.png gave x_overlay.png, and next to x.jpg x_png_overlay.png: no script knew where its results were."""
    placed(tmp_path, "a/x.png", "b/x.png", "a/x.jpg", "y.png", "c/b_x_png.png", "c/d/x.png")
    inputs = [str(tmp_path / name) for name in ("a/x.png", *others)]
    paths = list_images(inputs)
    names = output_names(inputs, paths)
    assert names[tmp_path / "a/x.png"] == Path("x")
    assert set(names) == set(paths)
    assert len(set(names.values())) == len(names)


def test_results_of_subfolders_lie_in_subfolders(tmp_path):
    paths = placed(tmp_path, "p/a/x.png", "p/b/x.png", "p/y.png")
    for words in (["p"], ["p/*/x.png", "p/y.png"], ["p", "p/a"]):
        inputs = [str(tmp_path / word) for word in words]
        names = output_names(inputs, list_images(inputs))
        named = [str(names[path]) for path in paths]
        assert named == (["x", "b/x", "y"] if "p/a" in words else ["a/x", "b/x", "y"])


def test_of_two_images_with_one_name_the_second_gets_a_longer_one(models, tmp_path, caplog, capsys):
    """The second was not predicted at all, or both were named otherwise than each alone."""
    first, second, third = placed(tmp_path, "a/x.png", "b/x.png", "c/b/x.png")
    words = ["predict", str(models / "depth"), str(first), str(second), str(third), "--engine", "plain"]
    assert main([*words, "--out", str(tmp_path / "o")]) == 0
    assert capsys.readouterr().out.startswith("3 of 3 images predicted")
    assert {path.name for path in (tmp_path / "o").glob("*_depth.png")} == {
        *("x_depth.png", "b_x_png_depth.png", "b_x_png_2_depth.png")
    }
    assert (
        f"{second}: the results of {first} are already named x, so the results of this image are named b_x_png"
        in caplog.text
    )


@pytest.mark.slow
def test_engines_agree(models, images, tmp_path, capsys):
    for engine in ("plain", "eager"):
        words = [str(images / "color.jpg"), "--out", str(tmp_path / engine), "--raw", "--engine", engine]
        assert main(["predict", str(models / "depth"), *words]) == 0

    plain, eager = (np.load(tmp_path / engine / "color_depth.npy") for engine in ("plain", "eager"))
    np.testing.assert_allclose(eager, plain, rtol=1e-4)
    assert capsys.readouterr().err == "engine: eager, fp32 (asked for)\n"


@pytest.mark.slow
def test_16_bits_are_loaded_as_such(models, images, tmp_path, monkeypatch):
    """All weights were loaded in single precision first."""
    loaded = []
    monkeypatch.setattr("metaprompts.models.loading.load", lambda *what: loaded.append(load(*what)) or loaded[-1])

    words = [str(images / "color.jpg"), "--out", str(tmp_path / "out"), "--engine", "eager", "--precision", "bf16"]
    assert main(["predict", str(models / "depth"), *words]) == 0

    assert [model.dtype for model in loaded] == [torch.bfloat16]


@pytest.mark.slow
def test_fewer_steps_are_another_prediction(models, images, tmp_path):
    for steps in ("1", "3"):
        words = [str(images / "color.jpg"), "--out", str(tmp_path / steps), "--raw", "--steps", steps]
        assert main(["predict", str(models / "depth"), *words]) == 0

    first, last = (np.load(tmp_path / steps / "color_depth.npy") for steps in ("1", "3"))
    assert abs(first - last).max() > 1e-4


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--steps", "4"], "4 refinement steps requested, but the model has 3: give 1 to 3"),
        (["--merge-tokens", "0.9"], "the fraction of tokens to merge is 0.9; expected 0 to 0.75"),
        (
            ["--engine", "eager", "--precision", "w8a16"],
            "engine eager supports fp32, bf16 and fp16, not w8a16: choose openvino for that",
        ),
        (
            ["--engine", "plain", "--steps", "2"],
            "engine plain computes everything in fp32: choose eager for other precisions and for approximations",
        ),
    ],
)
def test_says_what_an_engine_cannot_do(models, images, tmp_path, capsys, words, line):
    assert main(["predict", str(models / "depth"), str(images), "--out", str(tmp_path / "out"), *words]) == 2
    assert capsys.readouterr().err == f"error: {line}\n"
    assert not (tmp_path / "out").exists()


def test_windows_are_predicted_as_they_are(models, images, tmp_path):
    """The image of 60 x 40 pixels is smaller than a window, and therefore predicted whole but not resized."""
    arguments = [str(images / "color.jpg"), "--out", str(tmp_path), "--raw"]
    words = ["--window", "64,96", "--stride", "32,48", "--engine", "plain"]
    assert main(["predict", str(models / "depth"), *arguments, *words]) == 0
    found = np.load(tmp_path / "color_depth.npy")
    expected = load(models / "depth", "cpu").predict(images / "color.jpg", window=(64, 96), stride=(32, 48))
    assert (found == expected.depth_m).all()


@pytest.mark.slow
def test_little_memory_changes_nothing_but_rounding(models, tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "large.png")
    words = ["predict", str(models / "depth"), str(tmp_path / "large.png"), "--raw", "--window", "256,384"]
    assert main([*words, "--out", str(tmp_path / "free")]) == 0
    assert main([*words, "--out", str(tmp_path / "bounded"), "--max-memory", "760MB", "--batch-size", "4"]) == 0
    free, bounded = (np.load(tmp_path / name / "large_depth.npy") for name in ("free", "bounded"))
    np.testing.assert_allclose(free, bounded, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--window", "64"], "--window is '64'; expected a height and a width in pixels, such as 1024,1024"),
        (["--window", "64,64", "--stride", "a,b"], "--stride is 'a,b'; expected a height and a width"),
        (["--window", "64,64", "--stride", "64,65"], "a stride no larger than the window"),
        (["--stride", "64,64"], "a window: give both or neither"),
        (["--max-memory", "much"], "--max-memory is 'much'; expected bytes, or a number with a unit, such as 8GB"),
        (["--max-memory", "100MB"], "but the limit is 0.10 GB: free memory, raise --max-memory"),
        # Were accepted, as if the machine had them.
        (["--max-memory", "9TB"], "--max-memory is 8381.9 GiB, but this machine has "),
        (["--max-memory", "9" * 400 + "TB"], "TB'; expected at most 8 EiB"),
    ],
)
def test_bad_windows_and_limits_are_one_line(models, data, tmp_path, capsys, options, message):
    arguments = [str(data / "images"), "--out", str(tmp_path / "o"), *options]
    assert main(["predict", str(models / "segmentation"), *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error


def test_the_device_reaches_the_engine(models, images, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pytest.importorskip("openvino").Core, "available_devices", ["CPU"])
    words = ["--engine", "openvino", "--device", "gpu", "--out", str(tmp_path / "out")]
    assert main(["predict", str(models / "depth"), str(images), *words]) == 2
    assert capsys.readouterr().err == "error: OpenVINO has no device 'gpu' here; expected one of cpu\n"


def test_a_file_in_the_place_of_the_folder_is_reported_at_once(models, images, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("metaprompts.models.loading.load", None)
    (tmp_path / "file").touch()
    assert main(["predict", str(models / "depth"), str(images), "--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err == f"error: cannot write to {tmp_path}/file: {tmp_path}/file is not a folder\n"


def test_pose_refuses_windows(models, data, tmp_path, capsys):
    arguments = [str(data / "images"), "--out", str(tmp_path / "o"), "--window", "64,64"]
    assert main(["predict", str(models / "pose"), *arguments]) == 2
    printed = capsys.readouterr().err
    assert printed == "error: --window applies only to whole images, but pose predicts people: omit it\n", (
        "no other lines"
    )


@pytest.mark.slow
def test_a_name_too_long_for_its_results_does_not_stop_the_others(models, tmp_path, capsys):
    """The name of an image may have 255 bytes, and those of its results are longer."""
    for name in ("a" * 245, "b"):
        Image.new("RGB", (64, 64)).save(tmp_path / f"{name}.png")
    assert main(["predict", str(models / "depth"), f"{tmp_path}/*.png", "--out", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert "1 of 2 images predicted" in captured.out
    assert "aaa.png is too long for the names of its results: rename it" in captured.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b_depth.png", "b_depth_color.png"]


class FakeInference:
    """Predicts the width of images, and no wide ones."""

    models = (SimpleNamespace(config=SimpleNamespace(prompts=SimpleNamespace(kind="matrix"))),)

    def check_size(self, width, height):
        pass

    def predictions(self, model, inputs):
        for image, *_ in inputs:
            if image.shape[1] > 64:
                raise InputError("it takes too much memory")
            yield image.shape[1]


@pytest.mark.parametrize("names", ["abc", "b", "ac", "bb"])
def test_one_image_too_large_does_not_stop_the_others(tmp_path, names):
    """One that did not fit in --max-memory ended the whole run, in the middle."""
    paths = [tmp_path / f"{number}{name}.png" for number, name in enumerate(names)]
    for path in paths:
        Image.new("L", (80 if path.stem.endswith("b") else 64, 8)).save(path)
    failures = []
    images = {path: np.asarray(Image.open(path)) for path in paths}
    pairs = predict_group(FakeInference(), images, People(), None, failures)
    assert pairs == [(path, 64) for path in paths if not path.stem.endswith("b")]
    assert failures == [f"{path}: it takes too much memory" for path in paths if path.stem.endswith("b")]


def test_larger_images_are_not_read_ahead(tmp_path):
    """Two of them would take twice the computed memory."""
    paths = [tmp_path / "small.png", tmp_path / "large.png"]
    Image.new("L", (64, 8)).save(paths[0])
    Image.new("L", (64, 64)).save(paths[1])
    assert read_group(paths, lambda width, height: None, None, most_pixels=600).images is None
    both = read_group(paths, lambda width, height: None, None)
    assert [image.shape for image in both.images.values()] == [(8, 64, 3), (64, 64, 3)]


def test_a_image_that_memory_does_not_hold(models, tmp_path, capsys):
    """194 KB of PNG may be 169 megapixels; what they take was found out by taking it."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 13000, 13000, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "a.png").write_bytes(start + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))
    Image.new("L", (64, 64)).save(tmp_path / "b.png")
    words = ["--max-memory", "1.5GB", "--engine", "plain"]
    assert main(["predict", str(models / "depth"), f"{tmp_path}/*.png", "--out", str(tmp_path / "out"), *words]) == 1
    captured = capsys.readouterr()
    assert "1 of 2 images predicted" in captured.out
    assert "image " in captured.err
    assert "a.png: 13000x13000 pixels and their prediction need" in captured.err


@pytest.mark.slow
def test_a_white_level_is_known_from_the_start(models, tmp_path, caplog, monkeypatch):
    """The search for a readable image, before the model is loaded, warned of images that are nearly black."""
    monkeypatch.setattr(decoding, "_advised", set())
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)).save(tmp_path / "a.png")
    words = ["predict", str(models / "depth"), str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--engine"]
    assert main([*words, "plain", "--white-level", "4095"]) == 0
    assert "white level" not in caplog.text
    assert main([*words, "plain"]) == 0
    assert "set the white level to 4095" in caplog.text


@pytest.mark.slow
def test_a_image_beyond_pillows_limit(models, tmp_path, capsys, monkeypatch):
    """300 megapixels were refused before any memory was asked for."""
    # Pillow 12 applies its limit also to bands, which have at most 2**20 pixels.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2**20)
    monkeypatch.setattr(inputs, "_LARGE", 100)
    Image.new("L", (2048, 1100)).save(tmp_path / "a.png")
    words = ["predict", str(models / "depth"), str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--engine"]
    assert main([*words, "plain"]) == 0
