import pytest
import torch

from metaprompts.modules.heads.deconv import DepthHead, HeatmapHead


@pytest.mark.parametrize(
    ("size", "expected"), [((64, 96), (64, 96)), ((70, 101), (64, 96)), ((8, 8), (8, 8)), ((15, 9), (8, 8))]
)
def test_depth_is_as_large_as_whole_latent_pixels_make_it(size, expected):
    head = DepthHead(5, filters=4, width=8, max_depth_m=10.0)
    assert head([torch.randn(2, 5, 8, 12)], size).shape == (2, 1, *expected)


def test_depth_lies_between_zero_and_the_largest():
    torch.manual_seed(0)
    head = DepthHead(5, filters=4, width=8, max_depth_m=80.0).eval()
    with torch.no_grad():
        depth_m = head([torch.randn(1, 5, 4, 4) * 100], (32, 32))
        logits = head.regress(head.convolve(head.enlarge(torch.ones(1, 5, 4, 4))))
        plain = head([torch.ones(1, 5, 4, 4)], (32, 32))
    assert depth_m.min() > 0
    assert depth_m.max() < 80
    torch.testing.assert_close(plain, 80 / (1 + torch.exp(-logits)))


@pytest.mark.parametrize(("size", "expected"), [((64, 96), (16, 24)), ((72, 8), (18, 2)), ((70, 101), (16, 24))])
def test_heatmaps_are_a_quarter_of_the_crop(size, expected):
    head = HeatmapHead(5, filters=8, joints=3)
    assert head([torch.randn(2, 5, 9, 12)], size).shape == (2, 3, *expected)


def test_heatmaps_start_near_zero():
    torch.manual_seed(0)
    head = HeatmapHead(5, filters=64, joints=17).eval()
    assert head([torch.randn(2, 5, 8, 8)], (64, 64)).abs().max() < 0.05
    assert not head.score.bias.any()
