import io
import json
import re
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image

from metaprompts.cli import main
from metaprompts.data.class_names import ADE20K, CITYSCAPES
from metaprompts.errors import InputError
from metaprompts.evaluation.submission.archive import packed
from metaprompts.evaluation.submission.formats import CITYSCAPES_LABEL_IDS, ade20k_ids, cityscapes_ids, kitti_depth
from metaprompts.evaluation.submission.test_sets import DetectedPeople
from metaprompts.models.loading import load
from metaprompts.recipes.loader import read_recipe
from metaprompts.training.build_model import build_model
from small import SMALL


@pytest.fixture
def submit(tmp_path):
    """Submits two random images of the given names with a small untrained model."""

    def run(form, task, names, overrides, *more):
        generator = np.random.default_rng(0)
        (tmp_path / "images/sub").mkdir(parents=True, exist_ok=True)
        for name in names:
            Image.fromarray(generator.integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(tmp_path / "images" / name)
        recipe = read_recipe(f"micro_{task}", [*SMALL[task], *overrides, "--prompts.count", "4"])
        build_model(recipe).save(tmp_path / "model")
        (tmp_path / "model/recipe.json").write_text(json.dumps(recipe.to_dict()))
        return main(["submit", str(tmp_path / "model"), form, "--images", str(tmp_path / "images"), *more])

    return run


def sized(*classes):
    return ["--task.classes", ",".join(classes), "--data.image_size", "64,64"]


def test_cityscapes_files_are_found_and_read_by_the_official_evaluation(submit, tmp_path):
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling

    official = evalPixelLevelSemanticLabeling

    names = ["sub/berlin_000000_000019_leftImg8bit.png", "munich_000123_000019_leftImg8bit.png"]
    out = tmp_path / "results"
    assert submit("cityscapes", "segmentation", names, sized(*CITYSCAPES), "--out", str(out)) == 0
    args = official.CArgs()
    args.predictionPath, args.predictionWalk = str(out), None
    for city in ("berlin_000000", "munich_000123"):
        found = official.getPrediction(args, f"/gt/{city.split('_')[0]}/{city}_000019_gtFine_labelIds.png")
        with Image.open(found) as image:
            assert (image.mode, image.size) == ("L", (90, 70))
            assert set(np.unique(image)) <= set(CITYSCAPES_LABEL_IDS)


def test_label_ids_are_those_of_cityscapesscripts():
    from cityscapesscripts.helpers.labels import trainId2label

    assert cityscapes_ids(np.arange(19)).tolist() == [trainId2label[index].id for index in range(19)]
    assert [trainId2label[index].name for index in range(19)] == list(CITYSCAPES)


@pytest.mark.slow
def test_ade20k_archive_holds_classes_from_one(submit, tmp_path):
    names, out = ["ADE_test_00000001.png", "sub/ADE_test_00000002.png"], tmp_path / "results.zip"
    more = ["--out", str(out), "--test.flip", "true", "--test.scales", "0.5,1"]
    assert submit("ade20k", "segmentation", names, sized(*ADE20K), *more) == 0
    with zipfile.ZipFile(out) as archive:
        assert sorted(archive.namelist()) == ["ADE_test_00000001.png", "ADE_test_00000002.png"]
        pixels = np.array(Image.open(io.BytesIO(archive.read("ADE_test_00000001.png"))))
    assert (pixels.dtype, pixels.shape) == (np.uint8, (70, 90))
    assert pixels.min() >= 1
    assert pixels.max() <= 150
    assert ade20k_ids(np.array([[0, 149]])).tolist() == [[1, 150]]


def test_kitti_depth_is_16_bit_256_a_meter(submit, tmp_path):
    names, out = ["0000000000.png", "0000000001.png"], tmp_path / "results"
    assert submit("kitti", "depth", names, ["--data.image_size", "none"], "--out", str(out)) == 0
    assert sorted(path.name for path in out.iterdir()) == names
    stored = cv2.imread(str(out / names[0]), cv2.IMREAD_UNCHANGED)
    assert (stored.dtype, stored.shape) == (np.uint16, (70, 90))
    model = load(tmp_path / "model", "cpu")
    assert 0 < stored.min() <= stored.max() <= 256 * model.task.max_depth_m
    assert kitti_depth(np.array([[1.5, 0.0, 80.0, 300.0, np.nan]])).tolist() == [[384, 1, 20480, 65535, 1]]


def test_coco_results_are_taken_by_pycocotools(submit, tmp_path):
    from pycocotools.coco import COCO

    names = ["000000000001.png", "000000000002.png"]
    images = [{"id": number, "file_name": name, "width": 90, "height": 70} for number, name in enumerate(names, 1)]
    boxes = [
        {"image_id": 1, "category_id": 1, "bbox": [5, 5, 40, 60], "score": 0.9},
        {"image_id": 1, "category_id": 1, "bbox": [5, 5, 40, 60], "score": 0.5},  # found twice
        {"image_id": 2, "category_id": 1, "bbox": [30, 5.5, 20, 60], "score": 0.25},
        {"image_id": 2, "category_id": 3, "bbox": [30, 5, 20, 60], "score": 0.8},  # no person
    ]
    (tmp_path / "info.json").write_text(json.dumps({"images": images}))
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    files = ["--info", str(tmp_path / "info.json"), "--boxes", str(tmp_path / "boxes.json")]
    out = tmp_path / "person_keypoints_test-dev2017_ours_results.json"
    assert submit("coco", "pose", names, [], *files, "--out", str(out), "--test.oks_nms", "0.9") == 0
    results = json.loads(out.read_text())
    zipped = tmp_path / "ours.zip"
    assert submit("coco", "pose", names, [], *files, "--out", str(zipped), "--test.oks_nms", "0.9") == 0
    with zipfile.ZipFile(zipped) as archive:
        assert archive.namelist() == ["ours.json"]
        assert [entry.keys() for entry in json.loads(archive.read("ours.json"))] == [results[0].keys()] * 2
    assert [set(entry) for entry in results] == [{"image_id", "category_id", "keypoints", "score"}] * 2
    assert [(entry["image_id"], entry["category_id"], len(entry["keypoints"])) for entry in results] == [
        (1, 1, 51),
        (2, 1, 51),
    ]
    truth = COCO()
    truth.dataset = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    truth.createIndex()
    assert len(truth.loadRes(results).getAnnIds()) == 2


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"bbox": [5, float("nan"), 40, 60]}, "bbox is [5, nan, 40, 60], which is not finite"),
        ({"bbox": [5, 5, float("inf"), 60]}, "bbox is [5, 5, inf, 60], which is not finite"),
        ({"score": float("nan")}, "score is nan"),
        ({"category_id": 3}, "2 boxes, 0 of category 1"),
    ],
)
def test_boxes_that_are_none_are_refused(tmp_path, changed, expected):
    """The results were written with NaN in them, which is not JSON."""
    cat = {"image_id": 1, "category_id": 3, "bbox": [5, 5, 40, 60], "score": 0.9}
    (tmp_path / "info.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "a.png"}]}))
    (tmp_path / "boxes.json").write_text(json.dumps([cat, {**cat, "category_id": 1, **changed}]))
    with pytest.raises(InputError, match=re.escape(expected)) as caught:
        DetectedPeople(tmp_path, tmp_path / "info.json", tmp_path / "boxes.json", joints=17)
    assert "boxes.json" in str(caught.value)


@pytest.mark.parametrize("ending", [".zip", ".ZIP"])
def test_archives_are_zip_files_whatever_the_case(tmp_path, ending):
    """K.ZIP became a folder."""
    with packed(tmp_path / f"K{ending}") as add:
        add("a.json", b"[]")
    with zipfile.ZipFile(tmp_path / f"K{ending}") as archive:
        assert archive.read("a.json") == b"[]"


@pytest.mark.slow
def test_what_does_not_fit_is_refused(submit, tmp_path, capsys):
    out = ["--out", str(tmp_path / "results")]
    (tmp_path / "folder.zip").mkdir()
    assert submit("cityscapes", "segmentation", ["a.png"], sized("one", "two"), *out) == 2
    assert "2 classes; the server expects 19" in capsys.readouterr().err
    assert submit("cityscapes", "segmentation", ["a.png"], sized(*CITYSCAPES), *out) == 2
    assert "not named like Cityscapes images" in capsys.readouterr().err
    assert submit("kitti", "segmentation", ["a.png"], sized("one", "two"), *out) == 2
    assert "kitti is a benchmark for depth" in capsys.readouterr().err
    assert submit("coco", "pose", ["a.png"], [], *out) == 2
    assert "coco needs --info FILE" in capsys.readouterr().err
    files = ["--info", "gone.json", "--boxes", "gone.json"]
    assert submit("coco", "pose", ["a.png"], [], *files, *out) == 2
    assert "results ends in neither .json nor .zip" in capsys.readouterr().err
    folder = ["--out", str(tmp_path / "folder.zip")]
    assert submit("kitti", "depth", ["a.png"], ["--data.image_size", "none"], *folder) == 2
    assert "folder.zip is a folder; expected the name of a file" in capsys.readouterr().err
    assert submit("kitti", "depth", ["a.png", "sub/a.png"], ["--data.image_size", "none"], *out) == 2
    assert "two images would become a.png" in capsys.readouterr().err
    # Reported before anything is predicted, not in the middle.
    assert not (tmp_path / "results").exists()
    assert submit("voc", "depth", ["a.png"], [], *out) == 2
    assert "is not one of 'cityscapes', 'ade20k', 'kitti', 'coco'" in capsys.readouterr().err
    assert main(["submit", "model"]) == 2
    assert "Missing argument 'FORMAT'" in capsys.readouterr().err
