import json

import numpy as np
import pytest
from pycocotools import mask as masks
from pycocotools.coco import COCO

from metaprompts.data.datasets.keypoints import CocoKeypoints
from metaprompts.synthetic import generate_scene
from metaprompts.synthetic.layouts.base import Place
from metaprompts.synthetic.layouts.coco import Coco

COUNTS = {"train": 14, "val": 4}
DETECTIONS = "person_detection_results/COCO_val2017_detections_AP_H_56_person.json"
ANNOTATIONS = "annotations/person_keypoints_{}2017.json"


def people(coco, split):
    """(image id, scene, person) of everyone in a split."""
    first = {"train": 1, "val": 15}[split]
    scenes = [(first + number, coco.scene(split, number)) for number in range(COUNTS[split])]
    return [(image_id, scene, person) for image_id, scene in scenes for person in scene.people]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Scenes with what the layout keeps of them."""
    folder, found = tmp_path_factory.mktemp("records"), []
    for number in range(24):
        place = Place(split="val", number=number, index=number, seed=number)
        scene = generate_scene(number, 32, 48)
        found.append((scene, Coco().write(scene, place, folder)))
    return found


@pytest.mark.slow
def test_reader_gives_the_scenes_people_back(written):
    coco = written("coco")
    dataset = CocoKeypoints(coco.folder, ANNOTATIONS.format("train"), "train2017")
    known = [item for item in people(coco, "train") if item[2].keypoints[:, 2].any()]
    assert len(dataset) == len(known) > 2
    for sample, (image_id, scene, person) in zip(dataset, known, strict=True):
        assert np.array_equal(sample.person.keypoints, person.keypoints)
        assert np.array_equal(sample.person.box_xywh, person.box_xywh)
        assert (sample.person.image_id, sample.person.area) == (image_id, person.area)
        assert np.abs(sample.image.astype(int) - scene.image).mean() < 5


@pytest.mark.parametrize("split", ["train", "val"])
def test_pycocotools_gives_the_scenes_masks(written, split):
    coco = written("coco")
    loaded = COCO(str(coco.folder / ANNOTATIONS.format(split)))
    assert len(loaded.getImgIds()) == COUNTS[split]
    entries = loaded.loadAnns(loaded.getAnnIds())
    for entry, (image_id, scene, person) in zip(entries, people(coco, split), strict=True):
        assert np.array_equal(loaded.annToMask(entry), scene.things == person.thing)
        assert masks.area(loaded.annToRLE(entry)) == entry["area"] == person.area
        assert masks.toBbox(loaded.annToRLE(entry)).tolist() == entry["bbox"]
        assert entry["num_keypoints"] == (person.keypoints[:, 2] > 0).sum()
        assert entry["image_id"] == image_id
    for image in loaded.loadImgs(loaded.getImgIds()):
        assert (coco.folder / f"{split}2017" / image["file_name"]).is_file()
        assert image["file_name"] == f"{image['id']:012d}.jpg"


def test_ids_differ_in_both_files(written):
    contents = [
        json.loads((written("coco").folder / ANNOTATIONS.format(split)).read_text()) for split in ("train", "val")
    ]
    for key in ("images", "annotations"):
        ids = [entry["id"] for content in contents for entry in content[key]]
        assert len(ids) == len(set(ids)) > 3


def test_detections_are_near_the_people_and_some_are_false(records):
    false, true = 0, 0
    for scene, record in records:
        boxes = record["detections"]
        assert [box["score"] for box in boxes] == sorted((box["score"] for box in boxes), reverse=True)
        sure = [box for box in boxes if box["score"] > 0.5]
        assert len(sure) == len(scene.people)
        assert all(box["score"] < 1 and min(box["bbox"][2:]) > 0 for box in boxes)
        if sure:
            own = np.stack([person.box_xywh for person in scene.people]).astype(float)
            overlaps = masks.iou([box["bbox"] for box in sure], own, [0] * len(own))
            assert sorted(overlaps.argmax(axis=1).tolist()) == list(range(len(own)))
            assert overlaps.max(axis=1).min() > 0.75
            assert overlaps.max() < 1
        true += len(sure)
        false += len(boxes) - len(sure)
    assert true > 3
    assert 6 < false < 18


def test_detections_are_those_of_the_validation_images(written):
    coco = written("coco")
    boxes = json.loads((coco.folder / DETECTIONS).read_text())
    assert boxes
    assert {box["image_id"] for box in boxes} <= {15, 16, 17, 18}


def test_like_the_genuine_sample(written, shared_data):
    coco, genuine = written("coco").folder, shared_data / "formats/coco"
    ours, theirs = (json.loads((root / ANNOTATIONS.format("val")).read_text()) for root in (coco, genuine))
    ours_train = json.loads((coco / ANNOTATIONS.format("train")).read_text())
    assert ours.keys() == theirs.keys()
    assert ours["categories"] == theirs["categories"]
    assert theirs["info"].keys() <= ours["info"].keys()
    for key in ("licenses", "images", "annotations"):
        assert ours_train[key][0].keys() == theirs[key][0].keys()
    boxes = [json.loads((root / DETECTIONS).read_text()) for root in (coco, genuine)]
    assert boxes[0][0].keys() == boxes[1][0].keys()
    names = [next((root / "val2017").iterdir()).name for root in (coco, genuine)]
    assert len(names[0]) == len(names[1])
