import numpy as np
import torch

from metaprompts.data.transforms.affine import box_center_scale
from metaprompts.inference.detectors.base import without_duplicates
from metaprompts.metrics.pose import KeypointScores
from metaprompts.tasks.pose import Pose
from metaprompts.tasks.predictions import PersonPose, PosePrediction


def test_the_people_kept_are_those_that_an_evaluation_keeps():
    task, random = Pose(), np.random.default_rng(0)
    body = random.uniform(20, 80, (17, 2))
    shifts, box_scores = (0, 0.5, 3, 30), (0.5, 0.9, 0.8, 0.7)
    people = tuple(
        PersonPose(
            keypoints=(body + shift).astype(np.float32),
            scores=random.uniform(0, 1, 17).astype(np.float32),
            box_xywh=(10.0 + shift, 10.0, 80.0, 80.0),
            score=score,
        )
        for shift, score in zip(shifts, box_scores, strict=True)
    )
    image = np.zeros((120, 120, 3), np.uint8)
    prediction = PosePrediction(people=people, joints=task.joints, skeleton=task.skeleton, image=image)
    category = {"id": 1, "name": "person", "keypoints": list(task.joints), "skeleton": []}
    annotation = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [0, 0, 9, 9],
        "area": 81,
        "num_keypoints": 17,
        "keypoints": [1, 1, 2] * 17,
    }
    truth = {
        "images": [{"id": 1, "file_name": "a.png", "width": 120, "height": 120}],
        "annotations": [annotation],
        "categories": [category],
    }
    for threshold in (0.5, 0.9, 0.999):
        metric = KeypointScores(truth, task.oks_sigmas, nms_threshold=threshold)
        boxes = [np.array(person.box_xywh, np.float32) for person in people]
        areas = [box_center_scale(box, 448 / 576, padding=1.25)[1].prod() for box in boxes]
        metric.update(
            torch.ones(4),
            torch.tensor(np.array([person.keypoints for person in people])),
            torch.tensor(np.array([person.scores for person in people])),
            torch.tensor(box_scores),
            torch.tensor(areas),
        )
        expected = {tuple(np.round(row["keypoints"][:2], 3)) for row in metric.results()}
        kept = without_duplicates(task, prediction, threshold).people
        assert {tuple(np.round(person.keypoints[0].astype(float), 3)) for person in kept} == expected
        assert len(kept) < 4 or threshold == 0.999
