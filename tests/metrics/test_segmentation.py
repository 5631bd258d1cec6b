import math

import numpy as np
import pytest
import torch

from metaprompts.errors import InputError
from metaprompts.metrics.segmentation import SegmentationScores


def numpy_scores(predicted, labels, classes, ignore):
    predicted, labels = predicted[labels != ignore], labels[labels != ignore]
    iou, accuracy = np.full(classes, np.nan), np.full(classes, np.nan)
    for index in range(classes):
        both = ((predicted == index) & (labels == index)).sum()
        either = ((predicted == index) | (labels == index)).sum()
        iou[index] = both / either if either else np.nan
        accuracy[index] = both / (labels == index).sum() if (labels == index).any() else np.nan
    return iou, np.nanmean(iou), np.nanmean(accuracy), (predicted == labels).mean()


def test_scores_by_hand():
    """Class 0: 2 right of 3 seen or labeled; class 1: 1 of 2; class 2 only predicted: 0 of 1; class 3 absent."""
    labels = torch.tensor([[[0, 0, 0], [1, 1, 255]]])
    predicted = torch.tensor([[[0, 0, 2], [1, 0, 0]]])
    scores = SegmentationScores(4)
    scores.update(predicted, labels)
    result = scores.scores()
    assert result["iou_per_class"] == pytest.approx([2 / 4, 1 / 2, 0, math.nan], nan_ok=True)
    assert result["mIoU"] == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert result["mAcc"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert result["aAcc"] == pytest.approx(3 / 5)


@pytest.mark.parametrize("seed", range(4))
def test_scores_equal_plain_numpy(seed):
    """One matrix over several batches, with classes nobody labeled, classes nobody predicted, and non-classes."""
    generator = np.random.default_rng(seed)
    labels = generator.choice([0, 1, 2, 5, 255], size=(5, 7, 9))
    predicted = np.where(generator.random(labels.shape) < 0.6, labels, generator.choice([0, 1, 4, 255], labels.shape))
    scores = SegmentationScores(8)
    for first in (0, 2, 4):
        scores.update(torch.tensor(predicted[first : first + 2]), torch.tensor(labels[first : first + 2]))
    result = scores.scores()
    iou, mean_iou, mean_accuracy, accuracy = numpy_scores(predicted, labels, 8, 255)
    np.testing.assert_allclose(result["iou_per_class"], iou, rtol=1e-12)
    assert [result[name] for name in ("mIoU", "mAcc", "aAcc")] == pytest.approx([mean_iou, mean_accuracy, accuracy])


def test_one_matrix_is_not_the_mean_of_images():
    labels = torch.tensor([[[0, 0, 0, 0]], [[0, 1, 1, 1]]])
    predicted = torch.tensor([[[0, 0, 0, 0]], [[1, 1, 1, 1]]])
    scores = SegmentationScores(2)
    scores.update(predicted[:1], labels[:1])
    scores.update(predicted[1:], labels[1:])
    assert scores.scores()["mIoU"] == pytest.approx((4 / 5 + 3 / 4) / 2)


def test_scores_equal_cityscapesscripts():
    official = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    from cityscapesscripts.helpers.labels import labels as table

    generator = np.random.default_rng(0)
    evaluated = [label for label in table if not label.ignoreInEval]
    args = type("Args", (), {"evalLabels": [label.id for label in table if label.id >= 0]})
    # License plates (-1) are not part of the official matrix; three of the classes never occur.
    ids = generator.choice([label.id for label in evaluated[3:]] + [0, 4, 9], size=(3, 20, 30))
    guesses = np.where(
        generator.random(ids.shape) < 0.5, ids, generator.choice([label.id for label in evaluated], ids.shape)
    )
    guesses = np.where(np.isin(guesses, [0, 4, 9]), 7, guesses)
    matrix = np.zeros((34, 34), dtype=np.int64)
    np.add.at(matrix, (ids.ravel(), guesses.ravel()), 1)
    expected = {label.id: official.getIouScoreForLabel(label.id, matrix, args) for label in evaluated}

    train_ids = np.full(34, 255)
    train_ids[[label.id for label in evaluated]] = [label.trainId for label in evaluated]
    scores = SegmentationScores(19)
    scores.update(torch.tensor(train_ids[guesses]), torch.tensor(train_ids[ids]))
    result = scores.scores()
    np.testing.assert_allclose(result["iou_per_class"], list(expected.values()), rtol=1e-12)
    assert result["mIoU"] == pytest.approx(official.getScoreAverage(expected, args), rel=1e-12)


def test_nothing_valid_gives_nan():
    scores = SegmentationScores(3)
    scores.update(torch.zeros(1, 2, 2, dtype=torch.long), torch.full((1, 2, 2), 255))
    result = scores.scores()
    assert all(math.isnan(result[name]) for name in ("mIoU", "aAcc", "mAcc"))
    assert all(map(math.isnan, result["iou_per_class"]))


def test_no_ignored_index_counts_every_pixel():
    scores = SegmentationScores(256, ignore_index=None)
    scores.update(torch.tensor([[[255, 0]]]), torch.tensor([[[255, 255]]], dtype=torch.uint8))
    assert scores.scores()["aAcc"] == 0.5


def test_bytes_do_not_wrap():
    """Labels arrive as uint8; the pair index 150 * 151 must not be computed in that type."""
    scores = SegmentationScores(150)
    scores.update(torch.full((1, 1, 4), 149, dtype=torch.uint8), torch.full((1, 1, 4), 149, dtype=torch.uint8))
    assert scores.confusion[149, 149] == 4


@pytest.mark.parametrize("label", [-1, 3, 254])
def test_unknown_label_is_refused(label):
    with pytest.raises(InputError, match=f"value {label}; expected 0..2 or 255"):
        SegmentationScores(3).update(torch.zeros(1, 1, 1, dtype=torch.long), torch.full((1, 1, 1), label))


def test_sizes_must_agree():
    with pytest.raises(InputError, match="resize the logits"):
        SegmentationScores(3).update(torch.zeros(1, 2, 2), torch.zeros(1, 4, 4))
