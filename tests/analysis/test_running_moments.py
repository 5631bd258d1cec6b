import numpy as np
import pytest
import torch

from metaprompts.metrics.prompt_statistics import RunningMoments


@pytest.mark.parametrize("offset", [0.0, 1e7])
def test_running_sums_equal_numpy_on_all_at_once(offset):
    """Far from zero too, where sums of plain squares lose half their digits."""
    generator = np.random.default_rng(0)
    parts = [generator.normal(size=(3, size)) * [[1], [2], [0.1]] + offset for size in (5, 1, 40, 7)]
    companions = [generator.normal(size=part.shape[1]) - part[0] + 2 * offset for part in parts]
    moments = RunningMoments(3)
    for part, companion in zip(parts, companions, strict=True):
        moments.update(torch.tensor(part[:2]), torch.tensor(companion), part=slice(0, 2))
        moments.update(torch.tensor(part[2:]), torch.tensor(companion), part=slice(2, 3))
    whole, companion = np.concatenate(parts, axis=1), np.concatenate(companions)
    np.testing.assert_allclose(moments.mean(), whole.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(moments.std(), whole.std(axis=1), rtol=1e-7)
    expected = np.corrcoef(np.vstack([whole - offset, companion - 2 * offset]))[3, :3]
    np.testing.assert_allclose(moments.correlation(), expected, atol=1e-6)


def test_by_hand():
    """1, 2, 3 companions 2, 2, 5: covariance 1, variances 2/3 and 2, so r = 1 / sqrt(4/3)."""
    moments = RunningMoments(1)
    moments.update(torch.tensor([[1.0, 2.0]]).double(), torch.tensor([2.0, 2.0]).double())
    moments.update(torch.tensor([[3.0]]).double(), torch.tensor([5.0]).double())
    assert moments.mean().item() == 2
    assert moments.std().item() == pytest.approx((2 / 3) ** 0.5)
    assert moments.correlation().item() == pytest.approx((3 / 4) ** 0.5)


def test_what_never_changes_has_no_correlation():
    moments = RunningMoments(2)
    for value in (0.1, np.nextafter(0.1, 1)):  # as far apart as rounding takes them
        moments.update(torch.tensor([[value] * 3, [1, 2, 4]], dtype=torch.float64), torch.arange(3).double())
    assert moments.std()[0] == 0
    assert moments.correlation().isnan().tolist() == [True, False]
    constant = RunningMoments(1)
    constant.update(torch.arange(3).double()[None], torch.ones(3).double())
    assert constant.correlation().isnan().all()


def test_nothing_leaves_no_trace():
    moments = RunningMoments(1)
    moments.update(torch.zeros(1, 0).double(), torch.zeros(0).double())
    assert moments.mean().isnan().all()
    moments.update(torch.tensor([[3.0, 5.0]]).double(), torch.tensor([1.0, 2.0]).double())
    assert moments.mean().item() == 4
    assert moments.correlation().item() == pytest.approx(1)
