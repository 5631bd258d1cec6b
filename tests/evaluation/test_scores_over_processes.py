import json

import numpy as np
import pytest
import torch

from metaprompts.metrics.depth import DepthScores
from metaprompts.metrics.pose import PoseScores
from metaprompts.metrics.segmentation import SegmentationScores

SIGMAS = (0.05, 0.05)
TRUTH = {
    "images": [{"id": 1}, {"id": 2}],
    "categories": [{"id": 1, "name": "person"}],
    "annotations": [
        {
            "id": index,
            "image_id": index,
            "category_id": 1,
            "bbox": [0, 0, 100, 100],
            "area": 5000.0,
            "iscrowd": 0,
            "num_keypoints": 2,
            "keypoints": [10, 10, 2, 90, 90, 2],
        }
        for index in (1, 2)
    ],
}


def metrics(folder):
    (folder / "people.json").write_text(json.dumps(TRUTH))
    depth = DepthScores(min_depth_m=0.1, max_depth_m=10.0)
    return SegmentationScores(3), depth, PoseScores(folder / "people.json", SIGMAS)


def measured(folder, images, people):
    """Every metric, fed the given images; the person is in image 1."""
    labels = torch.arange(12).view(3, 2, 2) % 3
    predicted = torch.arange(12).view(3, 2, 2) % 2
    depth = torch.tensor([[[2.0, 3.0]], [[4.0, 1.0]], [[1.0, 9.0]]])
    segmentation, meters, poses = metrics(folder)
    for index in images:
        segmentation.update(predicted[index : index + 1], labels[index : index + 1])
        meters.update(depth[index : index + 1] * 1.3, depth[index : index + 1])
    if people:
        numbers = torch.tensor([1])
        batch = {
            "image_id": numbers,
            "annotation_id": numbers,
            "score": torch.ones(1),
            "keypoints": torch.tensor([[[10.0, 10, 2], [90, 90, 2]]]),
            "box_xywh": torch.tensor([[0.0, 0, 100, 100]]),
            "size": torch.full((1, 2), 70.0),
        }
        poses.update(torch.tensor([[[10.0, 10], [90, 50]]]), torch.ones(1, 2), batch)
    return segmentation, meters, poses


def test_the_counts_of_two_processes_score_as_one(tmp_path):
    """Images split unevenly, and a process that saw nobody: the sum of the counts, as stored, gives the same scores."""
    expected = [metric.scores() for metric in measured(tmp_path, [0, 1, 2], people=True)]
    assert expected[2]["AR"] == pytest.approx(0.05)
    assert expected[2]["pck@0.2"] == 0.5
    together = metrics(tmp_path)
    for images, people in (([0, 1], True), ([2], False)):
        for whole, part in zip(together, measured(tmp_path, images, people), strict=True):
            whole.add(json.loads(json.dumps(part.state())))
    for whole, single in zip(together, expected, strict=True):
        for name, value in single.items():
            np.testing.assert_allclose(whole.scores()[name], value, rtol=1e-12)
