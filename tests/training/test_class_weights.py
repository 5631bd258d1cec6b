"""Weights of classes: given, or balanced by the training masks."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from metaprompts.data.datasets.label_histogram import LabelHistogram
from metaprompts.errors import InputError
from metaprompts.recipes.loader import read_recipe
from metaprompts.tasks import Segmentation
from metaprompts.tasks.segmentation_losses import balanced_weights
from metaprompts.training.loop import train
from metaprompts.training.memory_estimate import training_memory
from metaprompts.utils.callbacks import Callback
from training.images import made_recipe


class Notes(Callback):
    def __init__(self):
        self.lines = []

    def on_message(self, lines):
        self.lines += lines


def test_balanced_weights_are_those_of_scikit_learn():
    """compute_class_weight("balanced", ...) by hand: samples / (classes * count); a class that never occurs has 1."""
    counted = LabelHistogram(("a", "b", "c"), total=1)
    counted.pixels.update({0: 60, 1: 20, (255, "255"): 1000})
    assert balanced_weights(counted) == [round(80 / (2 * 60), 6), 80 / (2 * 20), 1.0]


def test_weights_count_in_both_cross_entropies_alone():
    raw, auxiliary = torch.randn(2, 2, 3, 4, 5).unbind(0)
    labels = torch.randint(0, 3, (2, 4, 5))
    labels[0, 0, 0] = 255
    plain, weighted = (
        Segmentation(classes=("a", "b", "c"), class_weights=weights).losses(raw, auxiliary, {"labels": labels})
        for weights in (None, (0.5, 2.0, 3.0))
    )
    by_pixel = F.cross_entropy(raw, labels, ignore_index=255, reduction="none")
    factors = torch.tensor([0.5, 2.0, 3.0])[labels.where(labels != 255, 0)]
    assert weighted["cross_entropy"].item() == pytest.approx((by_pixel * factors).mean().item(), rel=1e-5)
    assert weighted["auxiliary"] != plain["auxiliary"]
    assert weighted["lovasz"] == plain["lovasz"]


@pytest.mark.parametrize("words", ["1,2", "1,2,3,4", "0,0,0", "1,x,2", "-1,1,1", "balancd"])
def test_weights_that_fit_no_classes_are_refused(words):
    with pytest.raises(InputError, match=r"task\.class_weights"):
        read_recipe("micro_segmentation", ["--task.classes", "a,b,c", "--task.class_weights", words])


@pytest.mark.slow
def test_balanced_weights_are_counted_said_and_stored(images, tmp_path):
    notes, made = Notes(), made_recipe("segmentation", images, tmp_path / "run", "--task.class_weights", "balanced")
    train(made, [notes])
    masks = [Image.open(images / line.split()[1]) for line in (images / "train_labels.txt").read_text().splitlines()]
    counts = np.bincount(np.concatenate([np.asarray(mask).ravel() for mask in masks]), minlength=256)[:2]
    stored = json.loads((tmp_path / "run/recipe.json").read_text())["task"]["class_weights"]
    assert stored == pytest.approx((counts.sum() / (2 * counts)).tolist(), abs=1e-6)
    assert json.loads((tmp_path / "run/best/config.json").read_text())["task"]["class_weights"] == stored
    assert any(
        line.startswith(f"task.class_weights, balanced over {len(masks)} training masks: ") for line in notes.lines
    )
    # It goes on with the same, and the memory of it can be computed.
    more = made_recipe(
        "segmentation", images, tmp_path / "run", "--task.class_weights", "balanced", "--training.steps", "3"
    )
    assert train(more, resume="auto").validations[-1]["step"] == 3
    assert training_memory(made).peak.total > 0
