"""Keypoint scores of a split whose file numbers its people in its own way."""

import json

import numpy as np
import pytest
import torch

from metaprompts.errors import InputError
from metaprompts.metrics.pose import PoseScores

SIGMAS = (0.05, 0.05)


def person(number, left, **changed):
    joints = [left + 10, 20, 2, left + 30, 60, 2]
    box = [left, 0, 40, 80]
    entry = {"id": number, "image_id": 1, "category_id": 1, "bbox": box, "area": 3200.0, "keypoints": joints}
    return {**entry, "num_keypoints": 2, "iscrowd": 0, **changed}


@pytest.fixture
def scores(tmp_path):
    def of(*people):
        content = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": people}
        (tmp_path / "people.json").write_text(json.dumps(content))
        return PoseScores(tmp_path / "people.json", SIGMAS)

    return of


@pytest.mark.parametrize("first", [0, 1, 70])
def test_everyone_is_matched_wherever_the_ids_begin(scores, first):
    """COCO's evaluation takes id 0 for nobody: with the ids from 0, AP was 0.5 here."""
    people = [person(first, 0), person(first + 1, 100), person(first, 300, iscrowd=1, keypoints=[])]
    found = scores(*people)
    joints = torch.from_numpy(np.array([each["keypoints"] for each in people[:2]], np.float32).reshape(2, 2, 3))
    batch = {
        "image_id": torch.tensor([1, 1]),
        "annotation_id": torch.tensor([first, first + 1]),
        "score": torch.ones(2),
        "keypoints": joints,
        "box_xywh": torch.tensor([each["bbox"] for each in people[:2]], dtype=torch.float32),
        "size": torch.tensor([[40.0, 80.0]] * 2),
    }
    found.update(joints[..., :2], torch.ones(2, 2), batch)
    result = found.scores()
    assert (result["AP"], result["AR"], result["pck@0.2"]) == pytest.approx((1, 1, 1))


def test_two_people_of_one_id_are_refused(scores):
    with pytest.raises(
        InputError, match=r"people\.json: 2 people have the annotation id 3; expected a different one for each"
    ):
        scores(person(3, 0), person(3, 100))
