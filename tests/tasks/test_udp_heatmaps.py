import pytest
import torch

from metaprompts.tasks.udp_heatmaps import decode_heatmaps, encode_heatmaps


def test_a_gaussian_of_height_one_by_hand():
    heatmap = encode_heatmaps(torch.tensor([2.0, 1.0]), (3, 5), sigma=2.0)
    assert heatmap.shape == (3, 5)
    assert heatmap[1, 2] == 1
    assert heatmap[1, 0].item() == pytest.approx(2.718281828**-0.5)
    assert heatmap[2, 4].item() == pytest.approx(2.718281828 ** (-(4 + 1) / 8))


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0, 3.0, 4.5])
@pytest.mark.parametrize("size", [(48, 40), (16, 64)])
def test_points_come_back_from_everywhere_in_the_heatmap(size, sigma):
    """Near the border too, where smoothing before the fit pulled points inward by up to 1.9 pixels."""
    shares = torch.rand(1, 500, 2, generator=torch.Generator().manual_seed(0))
    corners = torch.tensor([[[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.5, 0.0]]])
    points = torch.cat([shares, corners], dim=1) * torch.tensor([size[1] - 1.0, size[0] - 1.0])
    decoded, scores = decode_heatmaps(encode_heatmaps(points, size, sigma=sigma), sigma=sigma)
    assert (decoded - points).abs().max() < 0.0125  # 0.05 pixels of the crop
    assert scores.min() > 0.7


def test_a_lower_noisy_peak_is_found_as_well_as_noise_allows():
    generator = torch.Generator().manual_seed(0)
    points = 8 + 30 * torch.rand(1, 500, 2, generator=generator)
    heatmaps = 0.5 * encode_heatmaps(points, (48, 48), sigma=2.0)
    heatmaps += 0.01 * torch.randn(heatmaps.shape, generator=generator)
    decoded, scores = decode_heatmaps(heatmaps, sigma=2.0)
    assert (decoded - points).norm(dim=-1).mean() < 0.023
    largest, rounded = heatmaps.flatten(2).max(dim=2)
    assert torch.equal(scores, largest)
    pixels = torch.stack([rounded % 48, rounded // 48], dim=-1)
    assert (pixels - points).norm(dim=-1).mean() > 0.3


@pytest.mark.parametrize("value", [0.0, -1.0, 1.0, 1e-6])
def test_a_flat_heatmap_has_a_finite_point_inside(value):
    points, scores = decode_heatmaps(torch.full((2, 3, 12, 10), value), sigma=2.0)
    assert torch.isfinite(points).all()
    assert (points >= 0).all()
    assert (points <= torch.tensor([9.0, 11.0])).all()
    assert (scores == value).all()
    if value <= 0:
        assert (points == 0).all()


@pytest.mark.parametrize(("row", "column"), [(0, 0), (11, 9), (0, 5), (6, 9), (5, 5)])
def test_a_single_bright_pixel_is_near_its_own_place(row, column):
    heatmaps = torch.zeros(1, 1, 12, 10)
    heatmaps[0, 0, row, column] = 0.8
    points, scores = decode_heatmaps(heatmaps, sigma=2.0)
    assert (points[0, 0] - torch.tensor([column, row])).abs().max() < 0.1
    assert scores.item() == pytest.approx(0.8)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 2)])
def test_the_smallest_heatmaps_decode(size):
    points, _ = decode_heatmaps(encode_heatmaps(torch.zeros(1, 1, 2), size, sigma=2.0), sigma=2.0)
    assert torch.isfinite(points).all()
    assert points.abs().max() < 1e-3


def test_heatmaps_are_decoded_each_by_itself():
    generator = torch.Generator().manual_seed(0)
    points = 10 * torch.rand(2, 3, 2, generator=generator)
    together, _ = decode_heatmaps(encode_heatmaps(points, (12, 12), sigma=1.5), sigma=1.5)
    for image in range(2):
        for joint in range(3):
            alone, _ = decode_heatmaps(
                encode_heatmaps(points[image, joint].view(1, 1, 2), (12, 12), sigma=1.5), sigma=1.5
            )
            torch.testing.assert_close(together[image, joint], alone[0, 0])
