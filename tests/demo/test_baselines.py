"""Constant predictions, checked by hand."""

import math

import pytest
import torch

from metaprompts.demo.scoring import best_constant
from metaprompts.evaluation.evaluate import evaluate
from metaprompts.tasks import Depth, Pose, Segmentation


def test_most_frequent_class_of_each_place_ignoring_255():
    labels = torch.tensor([[[0, 1], [2, 255]], [[0, 1], [1, 255]], [[1, 0], [1, 2]]], dtype=torch.uint8)
    task = Segmentation(classes=("a", "b", "c"))
    constant = best_constant(task, [{"labels": labels[:2]}, {"labels": labels[2:]}])
    raw = constant(torch.zeros(5, 3, 2, 2))
    assert raw.shape == (5, 3, 2, 2)
    assert raw.argmax(1)[3].tolist() == [[0, 1], [1, 2]]


def test_geometric_mean_of_the_depth_that_was_measured():
    depth = torch.tensor([[[2.0, 0.0]], [[8.0, 0.0]]])
    constant = best_constant(Depth(max_depth_m=10.0), [{"depth_m": depth}])
    raw = constant(torch.zeros(1, 3, 1, 2))
    # Where nothing was measured the mean over all places stands in.
    torch.testing.assert_close(raw, torch.tensor([[[[4.0, 4.0]]]]))


def test_mean_of_the_labeled_joints():
    task = Pose(crop_height=64, crop_width=64, heatmap_sigma=2.0)
    keypoints = torch.zeros(3, 17, 3)
    keypoints[0, 0] = torch.tensor([20.0, 30.0, 2])
    keypoints[1, 0] = torch.tensor([30.0, 10.0, 1])
    keypoints[2, 0] = torch.tensor([500.0, 500.0, 0])
    decoded = task.decode(best_constant(task, [{"keypoints": keypoints[:2]}, {"keypoints": keypoints[2:]}]).raw)
    assert decoded[0, 0, :2].tolist() == pytest.approx([25.0, 20.0], abs=0.2)


def test_a_constant_is_scored_like_a_model():
    labels = torch.tensor([[[0, 1]], [[0, 0]]], dtype=torch.uint8)
    task = Segmentation(classes=("a", "b"))
    constant = best_constant(task, [{"labels": torch.tensor([[[0, 1]]], dtype=torch.uint8)}])
    scores = evaluate(constant, [{"image": torch.zeros(2, 3, 1, 2), "labels": labels}], metric_kwargs={})
    # Class a: 2 right of 3 that are a in truth or answer; class b: 1 of 2.
    assert scores["mIoU"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores["aAcc"] == pytest.approx(3 / 4)
    assert not math.isnan(scores["mIoU"])
