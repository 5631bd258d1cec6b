import math

import pytest
import torch

from metaprompts.pretraining.reconstruction import Reconstruction, blocky, chroma_spread, gray, psnr


def test_psnr_by_hand():
    truth = torch.zeros(2, 3, 4, 4)
    assert psnr(truth + 0.1, truth) == pytest.approx(20, abs=1e-4)
    assert psnr(truth, truth) == math.inf
    # One pixel value of 96 is off by 1.
    off = truth.clone()
    off[0, 0, 0, 0] = 1
    assert psnr(off, truth) == pytest.approx(10 * math.log10(96))


def test_averaged_blocks_scaled_back():
    image = torch.zeros(1, 3, 8, 16)
    image[..., 8:] = 0.5
    image[..., :8:2] = 0.25
    row = blocky(image)[0, 0, 0]
    # Averages 0.125 and 0.5 sit at pixel 3.5 and 11.5; outside and between: constant and a straight line.
    expected = [0.125] * 4 + [0.125 + 0.375 * (pixel - 3.5) / 8 for pixel in range(4, 12)] + [0.5] * 4
    assert row.tolist() == pytest.approx(expected)


def test_gray_keeps_brightness_and_loses_color():
    red = torch.tensor([1.0, 0, 0])[None, :, None, None].expand(1, 3, 2, 2)
    assert gray(red).unique().tolist() == pytest.approx([0.299])
    assert max(chroma_spread(gray(torch.rand(1, 3, 8, 8)))) < 1e-6


def test_chroma_spread_of_half_blue_half_black():
    image = torch.zeros(1, 3, 2, 2)
    image[:, 2, 0] = 1
    assert chroma_spread(image) == pytest.approx((0.25, 0.081312 / 2))


@pytest.mark.parametrize(
    ("psnr", "chroma", "found"),
    [
        (28.0, (0.10, 0.20), []),
        (26.9, (0.10, 0.20), ["PSNR 26.90 dB, expected 26.00"]),
        (28.0, (0.08, 0.24), ["blue difference 0.0800", "red difference 0.2400"]),
        (math.nan, (math.nan, 0.20), ["PSNR nan", "blue difference nan"]),
    ],
)
def test_shortcomings_name_the_figures(psnr, chroma, found):
    measured = Reconstruction(psnr=psnr, psnr_blocky=26, psnr_gray=22, chroma=chroma, chroma_true=(0.1, 0.2))
    lines = measured.shortcomings(margin_db=1, chroma_tolerance=0.15)
    assert len(lines) == len(found)
    assert all(part in line for part, line in zip(found, lines, strict=True))
