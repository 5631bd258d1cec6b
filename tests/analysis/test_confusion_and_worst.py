"""Which classes are taken for which, and which images are predicted worst."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from metaprompts.analysis.worst_images import worst_samples
from metaprompts.data.sample import Sample
from metaprompts.metrics.segmentation import write_confusion
from metaprompts.tasks import TASKS, Segmentation
from metaprompts.tasks.predictions import SegmentationPrediction


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


def test_the_legend_explains_ignored_pixels():
    """Ignored pixels of the truth have no color, and the legend of the worst images did not say so."""
    task = Segmentation(classes=("road", "sky"))
    image, labels = np.zeros((2, 2, 3), np.uint8), np.array([[0, 255], [0, 1]], np.uint8)
    truth = Sample(image=image, path="a.png", labels=labels)
    whole = Sample(image=image, path="a.png", labels=labels % 2)
    predicted = SegmentationPrediction(labels=labels % 2, classes=task.classes, image=image)
    assert task.legend_entries(whole) == task.legend_entries(predicted) == {0, 1}
    explained, plain = task.legend(task.legend_entries(truth), 600), task.legend({0, 1}, 600)
    assert len(explained) > len(plain)
    np.testing.assert_array_equal(explained[: len(plain)], plain)
    assert task.legend(set(), 600) is None
