import math

import pytest
import torch

from metaprompts.pretraining.reconstruction import chroma, chroma_loss, color_loss, edge_loss, kl_loss, pooled_loss


def one_color(red, green, blue, size=8):
    return torch.tensor([red, green, blue])[None, :, None, None].expand(1, 3, size, size)


def test_color_loss_is_the_mean_absolute_error():
    assert color_loss(one_color(0.3, -0.6, 0.0)).item() == pytest.approx(0.3)


def test_chroma_of_gray_is_nothing_and_of_blue_is_half():
    assert chroma(one_color(0.7, 0.7, 0.7)).abs().max() < 1e-6
    torch.testing.assert_close(chroma(one_color(0, 0, 1.0))[0, :, 0, 0], torch.tensor([0.5, -0.081312]))
    torch.testing.assert_close(chroma(one_color(1.0, 0, 0))[0, :, 0, 0], torch.tensor([-0.168736, 0.5]))


def test_chroma_loss_is_blind_to_brightness():
    assert chroma_loss(one_color(0.5, 0.5, 0.5)).item() == pytest.approx(0, abs=1e-6)
    assert chroma_loss(one_color(0, 0, 1.0)).item() == pytest.approx((0.5 + 0.081312) / 2)


def test_edge_loss_counts_steps_across_and_down():
    error = torch.zeros(1, 3, 4, 4)
    assert edge_loss(error + 0.9).item() == 0
    error[..., 2:] = 0.6
    # One of three differences across, none down.
    assert edge_loss(error).item() == pytest.approx(0.2)
    error[..., 2:, :] += 0.3
    assert edge_loss(error).item() == pytest.approx(0.2 + 0.1)


def test_pooled_loss_sees_through_checkers_and_adds_three_scales():
    checkers = ((torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1).expand(1, 3, 8, 8)
    assert pooled_loss(checkers).item() == 0
    assert pooled_loss(one_color(0.2, 0.2, 0.2)).item() == pytest.approx(0.6)
    stripes = torch.tensor([1.0, 1, -1, -1, 1, 1, -1, -1]).expand(1, 3, 8, 8)
    assert pooled_loss(stripes).item() == pytest.approx(1.0)


def test_divergence_from_the_standard_normal():
    zero = torch.zeros(2, 3)
    assert kl_loss(zero, zero).item() == 0
    assert kl_loss(zero + 2, zero).item() == pytest.approx(2)
    assert kl_loss(zero, zero + math.log(4)).item() == pytest.approx(0.5 * (3 - math.log(4)))
