import pytest
import torch
from diffusers import AutoencoderKL

from metaprompts.modules.backbone import LatentEncoder
from metaprompts.modules.backbone.loading import named_config


def build(**changes):
    torch.manual_seed(0)
    return AutoencoderKL.from_config(named_config("micro")["vae"] | changes)


@pytest.mark.parametrize("changes", [{}, {"use_quant_conv": False}, {"scaling_factor": 0.5, "shift_factor": 0.1}])
@pytest.mark.parametrize("size", [(64, 64), (40, 75)])
def test_latent_is_the_mode_of_the_posterior_unscaled(changes, size):
    vae = build(**changes).eval()
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = vae.encode(images * 2 - 1).latent_dist.mode()
    encoder = LatentEncoder(vae)
    encoder.precise = False
    torch.testing.assert_close(encoder(images), expected, rtol=1e-5, atol=1e-6)
    assert expected.shape == (2, 16, size[0] // 8, size[1] // 8)


def test_the_encoder_alone_is_kept_and_never_trained():
    vae = build(norm_num_groups=8)
    encoder = LatentEncoder(vae)
    expected = {name for name, _ in vae.named_parameters() if name.startswith(("encoder.", "quant_conv."))}
    assert {name for name, _ in encoder.named_parameters()} == expected
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    assert not encoder(images).requires_grad


def test_the_encoder_stays_in_evaluation_mode():
    encoder = LatentEncoder(build())
    outer = torch.nn.Sequential(encoder).train()
    assert outer.training
    assert not any(module.training for module in encoder.modules())
    assert encoder.train() is encoder


def test_the_stride_is_read_from_the_vae():
    assert LatentEncoder(build()).stride == 8
    three = {
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
        "block_out_channels": [16, 32, 64],
    }
    encoder = LatentEncoder(build(**three))
    assert encoder.stride == 4
    assert encoder(torch.rand(1, 3, 64, 32)).shape == (1, 16, 16, 8)


def test_single_precision_is_encoded_in_double_unless_asked_otherwise():
    encoder = LatentEncoder(build())
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    precise = encoder(images)
    encoder.precise = False
    plain = encoder(images)
    exact = encoder.double()(images.double())
    assert precise.dtype == plain.dtype == torch.float32
    assert torch.equal(precise, exact.float())
    assert not torch.equal(plain, precise)
    torch.testing.assert_close(plain, precise, rtol=1e-4, atol=1e-5)
