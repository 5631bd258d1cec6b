"""The encoder in strips gives what it gives whole."""

import pytest
import torch
from diffusers.models.autoencoders.vae import Encoder
from torch import nn

import metaprompts
from metaprompts.engines.optimized import Encode
from metaprompts.errors import InputError
from metaprompts.modules.backbone.tiled_vae import StripEncoder


def encoder(**changed: object) -> Encoder:
    torch.manual_seed(0)
    settings: dict[str, object] = {
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "block_out_channels": (8, 8, 16),
        "layers_per_block": 2,
        "norm_num_groups": 4,
        "out_channels": 4,
    }
    made = Encoder(**settings | changed).double().eval()
    for norm in (module for module in made.modules() if isinstance(module, nn.GroupNorm)):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return made


def pixels(batch: int, height: int, width: int) -> torch.Tensor:
    # Far from zero, where sums of squares cancel.
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1)).double() + 30


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 64])
@pytest.mark.parametrize(("height", "width"), [(32, 24), (37, 22), (8, 51), (4, 4)])
def test_strips_of_any_height_give_the_whole_map(rows: int, height: int, width: int) -> None:
    layers, images = encoder(), pixels(2, height, width)
    with torch.no_grad():
        whole = layers(images)

    strips = StripEncoder(layers, rows)(images)

    assert strips.shape == whole.shape
    assert torch.allclose(strips, whole, rtol=0, atol=1e-12)


def test_the_middle_may_lack_attention() -> None:
    layers, images = encoder(mid_block_add_attention=False), pixels(1, 20, 20)
    with torch.no_grad():
        assert torch.allclose(StripEncoder(layers, 3)(images), layers(images), rtol=0, atol=1e-12)


def test_images_are_left_as_they_are() -> None:
    images = pixels(1, 16, 16)
    before = images.clone()

    StripEncoder(encoder(), 4)(images)

    assert images.equal(before)


@pytest.mark.parametrize("scaled", [False, True])
def test_the_prepared_encoder_in_strips(scaled: bool) -> None:
    latent_encoder = metaprompts.load("micro-depth", "cpu").double().latent_encoder
    latent_encoder.scale = 0.18 if scaled else 1.0
    encode, images = Encode(latent_encoder), torch.rand(2, 3, 72, 56).double()
    with torch.no_grad():
        assert torch.allclose(encode.in_strips(5)(images), encode(images), rtol=0, atol=1e-12)


@pytest.mark.parametrize("precise", [False, True])
def test_a_models_own_encoder_in_strips(precise: bool) -> None:
    """In double precision nothing but the last rounding is left; in single precision it is single rounding."""
    latent_encoder = metaprompts.load("micro-depth", "cpu").latent_encoder
    latent_encoder.precise = precise
    images = torch.rand(1, 3, 72, 56)
    whole = latent_encoder(images)

    latent_encoder.rows = 5

    tolerance = 1e-6 if precise else 1e-4
    assert torch.allclose(latent_encoder(images), whole, rtol=0, atol=tolerance * float(whole.abs().max()))


def test_half_precision_is_normalized_in_single_precision() -> None:
    layers, images = encoder().bfloat16(), pixels(1, 32, 32).bfloat16() - 30
    with torch.no_grad():
        exact, whole = layers.double()(images.double()), layers.bfloat16()(images)

    strips = StripEncoder(layers, 8)(images)

    assert strips.dtype == torch.bfloat16
    assert (strips - exact).abs().max() < 1.5 * (whole - exact).abs().max()


def test_refuses_what_is_no_strip() -> None:
    with pytest.raises(InputError, match="strips of 0 rows requested; expected at least 1"):
        StripEncoder(encoder(), 0)


def test_refuses_other_layers() -> None:
    other = encoder(down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D", "DownEncoderBlock2D"))
    with pytest.raises(InputError, match="encoder contains AttnDownEncoderBlock2D"):
        StripEncoder(other, 8)
