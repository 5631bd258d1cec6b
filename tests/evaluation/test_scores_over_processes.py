import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing

from metaprompts.metrics.depth import DepthScores
from metaprompts.metrics.keypoints import KeypointScores
from metaprompts.metrics.pck import PercentageCorrectKeypoints
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


def scores_of(images, people):
    """Every metric, fed the given images; people are those of image 1 only, so process 1 sees nobody."""
    labels = torch.arange(12).view(3, 2, 2) % 3
    predicted = torch.arange(12).view(3, 2, 2) % 2
    depth = torch.tensor([[[2.0, 3.0]], [[4.0, 1.0]], [[1.0, 9.0]]])
    segmentation, meters = SegmentationScores(3), DepthScores(min_depth_m=0.1, max_depth_m=10.0)
    joints, poses = PercentageCorrectKeypoints(), KeypointScores(TRUTH, SIGMAS)
    for index in images:
        segmentation.update(predicted[index : index + 1], labels[index : index + 1])
        meters.update(depth[index : index + 1] * 1.3, depth[index : index + 1])
        target = torch.tensor([[[0.0, 0, 2], [9.0 * index, 0, 2]]])
        joints.update(torch.zeros(1, 2, 2), target, torch.full((1, 4), 50.0))
    if people:
        points = torch.tensor([[[10.0, 10], [90, 90]]])
        poses.update(torch.tensor([1]), points, torch.ones(1, 2), torch.ones(1), torch.full((1,), 5000.0))
    return [metric.compute() for metric in (segmentation, meters, joints, poses)]


def run_process(rank, folder):
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    try:
        scores = scores_of([0, 1] if rank == 0 else [2], people=rank == 0)
    finally:
        distributed.destroy_process_group()
    Path(folder, f"{rank}.json").write_text(json.dumps(scores))


def run_second(_, folder):
    torch.set_num_threads(1)
    run_process(1, folder)


@pytest.mark.slow
@pytest.mark.skipif(not distributed.is_gloo_available(), reason="this torch has no gloo")
def test_two_processes_score_as_one(tmp_path):
    """Images split unevenly, and a process that saw nobody: both give the numbers of a single process."""
    expected = scores_of([0, 1, 2], people=True)
    assert expected[3]["AR"] == pytest.approx(0.5)
    second = multiprocessing.spawn(run_second, (str(tmp_path),), nprocs=1, join=False)
    run_process(0, str(tmp_path))
    second.join()
    for rank in range(2):
        for ours, single in zip(json.loads((tmp_path / f"{rank}.json").read_text()), expected, strict=True):
            for name, value in single.items():
                np.testing.assert_allclose(ours[name], value, rtol=1e-12)
