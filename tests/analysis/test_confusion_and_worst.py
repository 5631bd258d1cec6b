"""Which classes are taken for which, and which images are predicted worst."""

import csv
import json

import pytest
import torch
from PIL import Image

from metaprompts.analysis.worst_images import worst_samples
from metaprompts.metrics.segmentation import write_confusion
from metaprompts.tasks import TASKS


def test_the_matrix_is_written_three_ways(tmp_path):
    confusion = torch.tensor([[3, 1, 0], [0, 5, 2]])
    write_confusion(confusion, ("road, wet", "sky"), tmp_path)
    assert json.loads((tmp_path / "confusion.json").read_text()) == {
        "rows": "truth",
        "columns": "prediction",
        "classes": ["road, wet", "sky"],
        "pixels": [[3, 1], [0, 5]],
    }
    rows = list(csv.reader((tmp_path / "confusion.csv").read_text().splitlines()))
    assert rows == [["truth \\ prediction", "road, wet", "sky"], ["road, wet", "3", "1"], ["sky", "0", "5"]]
    with Image.open(tmp_path / "confusion.png") as image:
        assert min(image.size) > 100


@pytest.mark.parametrize(
    ("task", "metric", "worst"),
    [("segmentation", "mIoU", [2, 0]), ("depth", "rmse", [1, 0]), ("pose", "pck@0.2", [2, 0])],
)
def test_the_worst_come_first_each_image_once(task, metric, worst):
    scores = {0: ("a", 0.5), 1: ("b", 0.9), 2: ("c", 0.1), 3: ("c", 0.2), 4: ("d", None)}
    records = {index: {"name": name, metric: score} for index, (name, score) in scores.items()}
    assert [index for index, _ in worst_samples(TASKS[task], records, 2)] == worst
