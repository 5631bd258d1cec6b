import math

import numpy as np
import pytest

from metaprompts.metrics.oks_nms import keep_best, keypoint_similarity

SIGMAS = (0.05, 0.1)


def test_similarity_by_hand():
    """Joint 1 is off by 3-4-5 pixels, joint 2 not at all; mean area 1000; k = 2 sigma = 0.1."""
    person = np.array([[10.0, 10.0], [50.0, 50.0]])
    other = np.array([[[13.0, 14.0], [50.0, 50.0]]])
    expected = (math.exp(-25 / (2 * 1000 * 0.1**2)) + 1) / 2
    assert keypoint_similarity(person, other, 500.0, np.array([1500.0]), SIGMAS) == pytest.approx([expected])


def test_doubles_go_and_the_best_stays():
    poses = np.array([[[0, 0], [9, 9]], [[0.5, 0], [9, 9]], [[40, 40], [60, 60]]], dtype=float)
    areas = np.full(3, 1000.0)
    assert keep_best(poses, np.array([0.5, 0.9, 0.7]), areas, SIGMAS, threshold=0.9) == [1, 2]


def test_the_first_of_equals_stays():
    poses = np.zeros((3, 2, 2))
    assert keep_best(poses, np.ones(3), np.full(3, 100.0), SIGMAS, threshold=0.9) == [0]


def test_equals_stay_in_their_order():
    """Many of them: numpy's default sort keeps the order of a few equals only by luck."""
    poses = np.arange(200.0)[:, None, None] * np.full((1, 2, 2), 1000.0)
    scores = np.tile([0.5, 1.0], 100)
    expected = [*range(1, 200, 2), *range(0, 200, 2)]
    assert keep_best(poses, scores, np.full(200, 100.0), SIGMAS, threshold=0.9) == expected


def test_a_removed_person_removes_nobody():
    """b is close to a and to c, a is not close to c: a removes b, so c stays."""
    poses = np.array([[[0, 0]], [[3, 0]], [[6, 0]]], dtype=float)
    areas = np.full(3, 1000.0)
    near, far = (keypoint_similarity(poses[0], poses[1:], 1000.0, areas[1:], (0.05,))).tolist()
    assert far < 0.4 < near
    assert keep_best(poses, np.array([3.0, 2.0, 1.0]), areas, (0.05,), threshold=0.4) == [0, 2]


def test_exactly_the_threshold_stays():
    poses = np.zeros((2, 1, 2))
    assert keep_best(poses, np.array([2.0, 1.0]), np.ones(2), (0.1,), threshold=1.0) == [0, 1]


def test_nobody():
    assert keep_best(np.zeros((0, 2, 2)), np.zeros(0), np.zeros(0), SIGMAS, threshold=0.9) == []
