import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from metaprompts.errors import InputError
from metaprompts.metrics.depth import CROPS, DEPTH_SCORES, DepthScores, silog

SHARED = Path(__file__).parents[2].parent / "shared"
GOLDEN = SHARED / "golden" / "metrics_golden.json"


def normal(name, shape):
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape).astype(np.float32)


def golden_arrays(dataset, shape, maximum):
    target = maximum * 1.1 / (1 + np.exp(-normal(f"metric_gt_{dataset}", shape)))
    target[normal(f"metric_hole_{dataset}", shape) > 0.5] = 0
    predicted = np.maximum(target, 0.05 * maximum) * np.exp(0.2 * normal(f"metric_noise_{dataset}", shape))
    return torch.tensor(predicted)[None], torch.tensor(target)[None, None]


def scored(predicted, target, **options):
    options = {"min_depth_m": 1e-3, "max_depth_m": 10.0} | options
    scores = DepthScores(**options)
    scores.update(torch.as_tensor(predicted), torch.as_tensor(target))
    return scores.scores()


@pytest.mark.skipif(not GOLDEN.exists(), reason="the outputs of the released code are not next to this checkout")
@pytest.mark.parametrize(
    ("name", "dataset", "shape", "maximum", "crop"),
    [
        ("nyudepthv2", "nyudepthv2", (480, 640), 10.0, "nyu"),
        ("kitti", "kitti", (352, 1216), 80.0, "garg"),
        ("kitti_eigen_crop", "kitti", (352, 1216), 80.0, "eigen"),
    ],
)
def test_scores_equal_the_released_code(name, dataset, shape, maximum, crop):
    golden = json.loads(GOLDEN.read_text())[name]
    predicted, target = golden_arrays(dataset, shape, maximum)
    mask = (target[0, 0] > 1e-3) & (target[0, 0] < maximum) & CROPS[crop](*shape)
    assert int(mask.sum()) == golden["n_valid"]
    result = scored(predicted, target, max_depth_m=maximum, crop=CROPS[crop])
    expected = [golden["abs_rel" if key == "rel" else key] for key in DEPTH_SCORES]
    assert [result[key] for key in DEPTH_SCORES] == pytest.approx(expected, rel=1e-6)


def test_scores_by_hand():
    """Two pixels: 2 m seen as 3 m, 4 m seen as 4 m."""
    result = scored([[[3.0, 4.0]]], [[[2.0, 4.0]]])
    logarithm = math.log(1.5)
    expected = {
        "d1": 0.5,
        "d2": 1.0,
        "d3": 1.0,
        "rel": 0.25,
        "sq_rel": 0.25,
        "rmse": math.sqrt(0.5),
        "rmse_log": logarithm / math.sqrt(2),
        "log10": math.log10(1.5) / 2,
        "silog": math.sqrt(logarithm**2 / 2 - 0.5 * (logarithm / 2) ** 2),
        "images": 1,
        "images_skipped": 0,
    }
    assert result == pytest.approx(expected)


def test_a_ratio_of_exactly_the_threshold_is_a_miss():
    assert scored([[[1.25]]], [[[1.0]]])["d1"] == 0


def test_images_weigh_the_same_however_many_pixels_are_valid():
    """Errors of 1 m on one pixel and 0 m on four average to 0.5 m, not 0.2 m; the order of batches does not matter."""
    target = torch.tensor([[[2.0, 0, 0, 0]], [[2.0, 2, 2, 2]]])
    predicted = torch.tensor([[[3.0, 1, 1, 1]], [[2.0, 2, 2, 2]]])
    assert scored(predicted, target)["rmse"] == pytest.approx(0.5)
    one_by_one = DepthScores(min_depth_m=1e-3, max_depth_m=10.0)
    for index in (1, 0):
        one_by_one.update(predicted[index : index + 1], target[index : index + 1])
    assert one_by_one.scores()["rmse"] == pytest.approx(0.5)


def test_images_without_valid_pixels_are_skipped_and_counted():
    target = torch.tensor([[[0.0, 10.0, math.nan, 1e-3]], [[1.0, 1.0, 0.0, 0.0]]])
    result = scored(torch.ones(2, 1, 4), target)
    assert (result["images"], result["images_skipped"], result["rmse"]) == (1, 1, 0)


def test_nothing_measured_gives_nan():
    result = scored(torch.ones(1, 1, 2), torch.zeros(1, 1, 2))
    assert all(math.isnan(result[name]) for name in DEPTH_SCORES)


def test_impossible_predictions_are_brought_into_range():
    """Infinity counts as the maximum, NaN, zero and negative depth as the minimum; nothing turns the sum into NaN."""
    predicted = [[[math.inf, -math.inf, math.nan, 0.0, -1.0]]]
    result = scored(predicted, torch.full((1, 1, 5), 5.0), min_depth_m=1.0)
    assert result["rmse"] == pytest.approx(math.sqrt((2 * 25 + 3 * 16) / 5))


def test_finite_predictions_beyond_the_maximum_are_kept():
    assert scored([[[12.0]]], [[[5.0]]])["rmse"] == pytest.approx(7.0)


def test_only_pixels_of_the_crop_count():
    def crop(height, width):
        return torch.arange(height * width).view(height, width) < 5

    target = torch.full((1, 4, 5), 2.0)
    predicted = target + 1
    predicted[:, 0] = 2.0
    assert scored(predicted, target, crop=crop)["rmse"] == 0
    assert scored(predicted, target)["rmse"] == pytest.approx(math.sqrt(3 / 4))


@pytest.mark.parametrize(
    ("crop", "size", "rows", "columns"),
    [
        (CROPS["nyu"], (480, 640), (45, 470), (41, 600)),
        (CROPS["garg"], (352, 1216), (143, 348), (43, 1171)),
        (CROPS["garg"], (375, 1242), (153, 370), (44, 1196)),
        (CROPS["eigen"], (352, 1216), (117, 320), (43, 1171)),
    ],
)
def test_crops_have_the_published_borders(crop, size, rows, columns):
    mask = crop(*size)
    kept_rows, kept_columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    assert mask.shape == size
    assert (int(kept_rows[0]), int(kept_rows[-1])) == rows
    assert (int(kept_columns[0]), int(kept_columns[-1])) == columns
    assert int(mask.sum()) == len(kept_rows) * len(kept_columns)


def test_silog_forgives_scale_by_its_focus():
    target = torch.tensor([1.0, 2.0, 7.0], dtype=torch.float64)
    assert silog(2 * target, target, variance_focus=0.0) == pytest.approx(math.log(2))
    assert silog(2 * target, target, variance_focus=0.5) == pytest.approx(math.log(2) / math.sqrt(2))
    assert silog(2 * target, target, variance_focus=1.0) == pytest.approx(0, abs=1e-7)


def test_silog_is_never_the_root_of_a_negative_number():
    """In float32 mean(d^2) - mean(d)^2 of equal errors comes out below zero for some of these."""
    for scale in np.linspace(1.01, 3, 200):
        target = torch.full((7,), 3.3)
        assert not silog(target * float(scale), target, variance_focus=1.0).isnan()


def test_nonsense_is_refused():
    with pytest.raises(InputError, match="expected 0 < minimum < maximum"):
        DepthScores(min_depth_m=0.0, max_depth_m=10.0)
    with pytest.raises(InputError, match="resize the prediction"):
        scored(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 4, 4))
    with pytest.raises(InputError, match="expected \\(B,1,H,W\\)"):
        scored(torch.ones(2, 2), torch.ones(2, 2))
