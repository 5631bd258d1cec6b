"""metaprompts data check."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from metaprompts.cli import main
from metaprompts.data.class_names import ADE20K, CITYSCAPES
from metaprompts.synthetic.layouts import write_scenes

TASKS = {
    "ade20k": {"name": "segmentation", "classes": ADE20K},
    "cityscapes": {"name": "segmentation", "classes": CITYSCAPES},
    "kitti": {"name": "depth", "max_depth_m": 80},
    "coco": {"name": "pose"},
}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layouts")
    for name in ("ade20k", "cityscapes", "kitti"):
        write_scenes(name, 4, folder / name, height=64, width=96)
    write_scenes("coco", 12, folder / "coco", height=64, width=96, val_count=6)
    return folder


@pytest.fixture
def check(roots, tmp_path, capsys, monkeypatch):
    """Check a copy of a layout after something was done to it; returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(layout, *words, spoil=lambda root: None):
        root = shutil.copytree(roots / layout, tmp_path / layout)
        spoil(root)
        recipe = {
            "task": TASKS[layout],
            "data": {} if layout == "coco" else {"layout": layout},
            "augment": {} if layout == "coco" else {"crop_size": [64, 64]},
            "optimizer": {"lr": 1e-3, "weight_decay": 0.0},
            "training": {"steps": 1, "batch_size": 2},
        }
        (tmp_path / "recipe.json").write_text(json.dumps(recipe))
        code = main(["data", "check", str(tmp_path / "recipe.json"), "--data.root", str(root), *words])
        return code, *capsys.readouterr()

    return run


def spoil_all(pattern):
    def write(root):
        for path in root.glob(pattern):
            Image.new("RGB", (96, 64)).save(path)

    return write


@pytest.mark.parametrize(
    ("layout", "lines"),
    [
        ("ade20k", ["train 3 images (published: 20210)", "val 1 image (published: 2000)"]),
        ("cityscapes", ["train 2 images (published: 2975)", "test 1 of 1525 images"]),
        ("kitti", ["train 3 images (published: 23158)", "val 1 image (published: 652)"]),
        ("coco", ["people (published: 149813)", "6 images listed (published: 5000)"]),
    ],
)
def test_whole_data(check, tmp_path, layout, lines):
    code, out, _ = check(layout, "--out", str(tmp_path / "sheet.png"))
    assert code == 0
    assert all(line in " ".join(out.split()) for line in lines)
    assert f"wrote {tmp_path / 'sheet.png'}" in out
    assert np.unique(np.array(Image.open(tmp_path / "sheet.png"))).size > 20


def test_test_images_may_be_missing(check):
    """Nobody needs them, but without their folder the check ended with: folder cannot be read."""
    code, out, _ = check("cityscapes", "--out", "none", spoil=lambda root: shutil.rmtree(root / "leftImg8bit/test"))
    assert code == 0
    assert "test no images in leftImg8bit/test; their labels are not published" in " ".join(out.split())


def test_own_data_have_no_published_counts(check):
    """ "6 images listed (published: 5000)" was said of everybody's own COCO file."""

    def rename(root):
        for path in root.glob("annotations/*.json"):
            path.rename(path.with_name(path.name.replace("2017", "_mine")))

    names = [
        word
        for split in ("train", "val")
        for word in (f"--data.{split}", f"annotations/person_keypoints_{split}_mine.json")
    ]
    code, out, _ = check("coco", *names, spoil=rename)
    assert code == 0
    assert "listed" in out
    assert "published" not in out


def test_the_sheet_has_a_histogram_of_the_classes(check, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "metaprompts.visualize.segmentation.class_histogram",
        lambda title, names, colors, shares, width: drawn.append((title, shares)) or np.zeros((9, width, 3), np.uint8),
    )
    check("ade20k", "--full")
    assert [title[: title.index(" in")] for title, _ in drawn] == [
        f"{part}: share of pixels by class" for part in ("train", "val")
    ]
    assert all(0 < sum(shares) <= 1 for _, shares in drawn)


def test_a_missing_split_is_code_1(check):
    code, out, _ = check("cityscapes", spoil=lambda root: shutil.rmtree(root / "gtFine/val"))
    assert code == 1
    assert "MISSING: folder" in out
    assert "gtFine/val does not exist" in out


def test_depth_out_of_range_is_code_1(check, tmp_path):
    """A depth split that training refused, all of it out of range, was checked with exit code 0."""

    def spoil(root):
        for path in root.glob("**/groundtruth/**/*.png"):
            Image.fromarray(np.full((64, 96), 65535, np.uint16)).save(path)

    code, out, _ = check("kitti", "--out", "none", spoil=spoil)
    assert code == 1
    assert "bad: no image of the train split has depth between task.min_depth_m" in out


def test_missing_images_of_people_are_named(check):
    """All was said to be well as long as no missing image was among the few that are read."""
    code, out, _ = check("coco", spoil=lambda root: shutil.rmtree(root / "val2017"))
    assert code == 1
    assert "val            MISSING: " in out
    assert " missing: " in out


def test_bad_files_are_listed_and_code_1(check):
    code, out, _ = check("ade20k", "--full", spoil=spoil_all("ADEChallengeData2016/annotations/training/*01.png"))
    assert code == 1
    assert out.count("bad: label file") == 1
    assert "ADE_train_00000001.png is RGB" in out


@pytest.mark.parametrize("shown", [True, False])
def test_samples_are_drawn_unless_nobody_wants_them(check, shown, tmp_path):
    code, out, _ = check("kitti", *([] if shown else ["--out", "none"]))
    assert code == 0
    assert ("wrote data-check-recipe.jpg" in out) == shown
    assert (tmp_path / "data-check-recipe.jpg").is_file() == shown


def test_nothing_usable_is_one_line_and_code_2(check, tmp_path):
    code, out, err = check("ade20k", "--out", str(tmp_path / "a.png"), spoil=spoil_all("**/annotations/*/*.png"))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "has no usable sample: label file" in err
    assert not (tmp_path / "a.png").exists()


def test_folder_of_something_else_is_code_2(check):
    code, _, err = check("kitti", spoil=lambda root: [path.unlink() for path in root.glob("*.txt")])
    assert code == 2
    assert "no train_list.txt" in err


def test_what_joints_are_taken_to_mean_is_reported(check):
    """Joints that no name calls left or right were mirrored without changing places, without a warning."""
    _, out, _ = check("coco")
    assert "swapped when an image is mirrored: left_eye/right_eye, left_ear/right_ear" in out
    assert "; unchanged: nose" in out


def test_joints_that_do_not_tell_are_code_1(check):
    names = [f"k{number}" for number in range(17)]

    def rename(root):
        for path in root.glob("annotations/*.json"):
            content = json.loads(path.read_text())
            content["categories"][0]["keypoints"] = names
            path.write_text(json.dumps(content))

    code, out, _ = check("coco", "--task.joints", ",".join(names), spoil=rename)
    assert code == 1
    assert "bad: mirroring is on, but no name in task.joints has left or right (k0, k1" in out


def test_joints_of_another_data_set(check):
    code, _, err = check("coco", "--task.joints", "head,neck", "--task.skeleton", "[]")
    assert code == 2
    assert "the recipe's task.joints are head, neck" in err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["data"], "Missing command; see metaprompts data --help"),
        (["data", "check", "micro_depth", "--help"], None),
        (["data", "look"], "No such command 'look'; see metaprompts data --help"),
        (["data", "check"], "Missing argument 'RECIPE'"),
        (["data", "check", "--full"], "Missing argument 'RECIPE'"),
        (["data", "check", "micro_depth", "--out"], "Option '--out' requires an argument"),
        (["data", "check", "micro_depth", "--out", "a.pdf"], "--out is a.pdf; expected a file name"),
        (["data", "check", "micro_depth"], "pass --data.root DIR"),
        (["data", "check", "micro_depth", "--data.root", "/nowhere"], "/nowhere is not a folder"),
    ],
)
def test_words(words, expected, capsys):
    assert main(words) == (0 if expected is None else 2)
    out, err = capsys.readouterr()
    assert "Usage: metaprompts data check" in out if expected is None else expected in err
