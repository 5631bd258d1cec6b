import json

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from metaprompts.errors import InputError
from metaprompts.pretraining.array_shards import Rows
from metaprompts.pretraining.reconstruction import Reconstruction, blocky
from metaprompts.pretraining.text_to_image import read_architecture
from metaprompts.pretraining.vae_init import begin_at_block_averages
from metaprompts.pretraining.vae_stage import (
    channel_moments,
    check_vae_quality,
    decode,
    encode,
    standardize,
    to_images,
    to_pixels,
)
from pretraining.drawn import ARCHITECTURE, rectangle


@pytest.fixture
def images():
    return np.stack([rectangle(seed, 64, 64)[0] for seed in range(4)])


def random_vae(config):
    torch.manual_seed(0)
    return AutoencoderKL.from_config(config)


def test_pixels_there_and_back(images):
    pixels = to_pixels(images)
    assert pixels.shape == (4, 3, 64, 64)
    assert -1 <= pixels.min() < pixels.max() <= 1
    np.testing.assert_array_equal(to_images(pixels), images)


def test_standardized_latents_have_no_mean_and_unit_spread_and_decode_to_the_same(images):
    vae = random_vae(ARCHITECTURE["vae"])
    before = encode(vae, images)
    decoded = decode(vae, before)
    variance = vae.encode(to_pixels(images)).latent_dist.var
    mean, std = channel_moments(before)
    assert std.min() > 1e-3
    assert (mean.abs() > 0.01).any()
    standardize(vae, mean, std)

    after = encode(vae, images)
    shape = (1, -1, 1, 1)
    torch.testing.assert_close(after.double(), (before - mean.view(shape)) / std.view(shape), atol=1e-4, rtol=1e-4)
    for found, expected in zip(channel_moments(after), (0.0, 1.0), strict=True):
        assert (found - expected).abs().max() < 1e-4
    assert (decode(vae, after) - decoded).abs().max() < 1e-5
    # The posterior's noise shrinks as its mean does.
    after = vae.encode(to_pixels(images)).latent_dist.var.double()
    torch.testing.assert_close(after, variance / std.view(shape) ** 2, rtol=1e-5, atol=0)
    assert vae.config.scaling_factor == 1


@pytest.mark.parametrize("widths", [(8, 8, 8, 8), (8, 16, 32, 64), (16, 32, 64, 64)])
def test_the_vae_begins_near_averaged_blocks_in_color(widths, images):
    vae = random_vae({**read_architecture(None).vae, "block_out_channels": widths})
    begin_at_block_averages(vae)
    truth = to_pixels(images)
    found = decode(vae, encode(vae, images))
    assert (found - blocky(truth)).abs().mean() < 0.2
    measured = Reconstruction.measure((truth + 1) / 2, (found.clamp(-1, 1) + 1) / 2)
    assert measured.psnr > measured.psnr_blocky - 4
    assert measured.chroma == pytest.approx(measured.chroma_true, rel=0.25)


def test_too_narrow_a_vae_is_refused():
    with pytest.raises(InputError, match=r"\[4, 8, 8, 8\].* at least 8"):
        begin_at_block_averages(random_vae({**ARCHITECTURE["vae"], "block_out_channels": [4, 8, 8, 8]}))


def test_the_run_measured_what_it_wrote(run):
    metrics = json.loads((run / "vae/metrics.json").read_text())
    vae = AutoencoderKL.from_pretrained(run / "vae/model")
    held_out = Rows(run / "scenes/held_out", 3).gather(range(3))
    found = decode(vae, encode(vae, held_out))
    measured = Reconstruction.measure((to_pixels(held_out) + 1) / 2, (found.clamp(-1, 1) + 1) / 2)
    assert metrics["psnr"] == pytest.approx(measured.psnr, abs=1e-3)
    assert metrics["chroma"] == pytest.approx(measured.chroma, abs=1e-4)
    assert (run / "vae/sheet.png").is_file()
    trained_on = encode(vae, Rows(run / "scenes/training", 6).gather(range(6)))
    mean, std = channel_moments(trained_on)
    # All channels together have unit spread, and each its share of it.
    assert mean.abs().max() < 1e-3
    assert std.square().mean().sqrt().item() == pytest.approx(1, abs=1e-3)
    before = torch.tensor(metrics["channel_stds"], dtype=torch.float64)
    torch.testing.assert_close(std / std[0], before / before[0], rtol=1e-2, atol=1e-3)


def test_a_bad_vae_is_refused_with_its_figures(tmp_path):
    good = {"psnr": 29.0, "psnr_blocky": 26.0, "psnr_gray": 22.0, "chroma": [0.1, 0.1], "chroma_true": [0.1, 0.1]}
    (tmp_path / "metrics.json").write_text(json.dumps({"steps": 5, **good}))
    check_vae_quality(tmp_path)
    (tmp_path / "metrics.json").write_text(json.dumps({"steps": 5, **good, "psnr": 26.5}))
    with pytest.raises(InputError, match=r"PSNR 26\.50 dB, expected 26\.00 .*--vae\.steps.*--ignore-gates"):
        check_vae_quality(tmp_path)
