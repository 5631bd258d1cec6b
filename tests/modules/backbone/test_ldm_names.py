"""Our map of names against diffusers' own converter, which goes the other way."""

from functools import partial

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint

from metaprompts.errors import InputError
from metaprompts.modules.backbone.ldm_config import configs_from_ldm
from metaprompts.modules.backbone.ldm_names import ldm_unet_name, ldm_vae_name
from metaprompts.modules.backbone.loading import named_config

CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
UNETS = {
    "sd1": {},
    "sd2": {"use_linear_projection": True, "attention_head_dim": [1, 2, 2], "cross_attention_dim": 96},
    "one layer": {"layers_per_block": 1},
    "three layers": {"layers_per_block": 3},
    "no attention above": {"down_block_types": [PLAIN, CROSS, CROSS], "up_block_types": ["Up", "CrossUp", "CrossUp"]},
    "deeper transformers": {"transformer_layers_per_block": [1, 2, 3]},
    "four levels": {
        "block_out_channels": [32, 64, 64, 96],
        "down_block_types": [CROSS, CROSS, CROSS, PLAIN],
        "up_block_types": ["Up", "CrossUp", "CrossUp", "CrossUp"],
    },
    "sixteen latent channels": {"in_channels": 16, "out_channels": 16},
}
UP = {"Up": "UpBlock2D", "CrossUp": "CrossAttnUpBlock2D"}


def unet_config(name: str) -> dict:
    config = {
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [64, 128, 128],
        "down_block_types": [CROSS, CROSS, PLAIN],
        "up_block_types": ["Up", "CrossUp", "CrossUp"],
        "layers_per_block": 2,
        "cross_attention_dim": 48,
        "attention_head_dim": 8,
        **UNETS[name],
    }
    if name == "no attention above":
        config["up_block_types"] = ["CrossUp", "CrossUp", "Up"]
    return config | {"up_block_types": [UP[kind] for kind in config["up_block_types"]]}


def meta(kind, config):
    with torch.device("meta"):
        return kind.from_config(config)


def vae_config(channels: int = 4) -> dict:
    return {
        "block_out_channels": [32, 64, 64],
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
        "layers_per_block": 2,
        "latent_channels": channels,
    }


def encoder_of(vae: AutoencoderKL) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in vae.state_dict().items() if name.startswith(("encoder.", "quant_conv."))}


@pytest.mark.parametrize("name", UNETS)
class TestUNet:
    def test_diffusers_converter_gives_the_names_back(self, name):
        unet = meta(UNet2DConditionModel, unet_config(name))
        rename_key, state = partial(ldm_unet_name, config=unet.config), unet.state_dict()
        spelled = {rename_key(ours): tensor for ours, tensor in state.items()}
        assert len(spelled) == len(state)
        assert not any("resnets" in theirs or "attentions" in theirs for theirs in spelled)
        prefixed = {f"model.diffusion_model.{theirs}": tensor for theirs, tensor in spelled.items()}
        back = convert_ldm_unet_checkpoint(prefixed, dict(unet.config))
        assert back.keys() == state.keys()
        assert all(back[ours] is tensor for ours, tensor in state.items())

    def test_the_config_comes_back_from_the_shapes(self, name):
        config = unet_config(name)
        unet, vae = meta(UNet2DConditionModel, config), meta(AutoencoderKL, vae_config(config["in_channels"]))
        rename_key = partial(ldm_unet_name, config=unet.config)
        read = configs_from_ldm(
            {rename_key(ours): tensor for ours, tensor in unet.state_dict().items()},
            {ldm_vae_name(ours): tensor for ours, tensor in encoder_of(vae).items()},
            "the file",
        )
        for key, value in config.items():
            if key != "transformer_layers_per_block" or name == "deeper transformers":
                assert read["unet"][key] == value, key
        # Names alone do not tell one transformer layer from another: the read config must build the same UNet.
        assert {n: t.shape for n, t in meta(UNet2DConditionModel, read["unet"]).state_dict().items()} == {
            n: t.shape for n, t in unet.state_dict().items()
        }
        for key, value in vae_config(config["in_channels"]).items():
            assert read["vae"][key] == value, key


def test_upsamplers_stand_behind_the_attention_if_there_is_one():
    """diffusers' converter takes either place, so it cannot tell."""
    with torch.device("meta"):
        config = UNet2DConditionModel.from_config(named_config("sd15")["unet"]).config
    rename_key = partial(ldm_unet_name, config=config)
    assert rename_key("up_blocks.0.upsamplers.0.conv.weight") == "output_blocks.2.1.conv.weight"
    assert rename_key("up_blocks.1.upsamplers.0.conv.weight") == "output_blocks.5.2.conv.weight"


class TestVAE:
    @pytest.mark.parametrize("convolutions", [True, False])
    def test_diffusers_converter_gives_the_names_back(self, convolutions):
        """Older files hold the attention's weights as 1x1 convolutions."""
        vae = AutoencoderKL.from_config(vae_config())
        state = encoder_of(vae)
        spelled = {}
        for ours, tensor in state.items():
            wide = convolutions and "attentions" in ours and tensor.ndim == 2
            spelled[ldm_vae_name(ours)] = tensor[:, :, None, None] if wide else tensor
        assert len(spelled) == len(state)
        prefixed = {f"first_stage_model.{theirs}": tensor for theirs, tensor in spelled.items()}
        back = convert_ldm_vae_checkpoint(prefixed, dict(vae.config))
        assert back.keys() == state.keys()
        assert all(torch.equal(back[ours].reshape(tensor.shape), tensor) for ours, tensor in state.items())


class TestTooLittle:
    def test_names_what_is_wanting(self):
        with pytest.raises(InputError, match=r"^x\.ckpt has no UNet and VAE encoder under LDM names: .* encoder\.d"):
            configs_from_ldm({}, {}, "x.ckpt")
        vae = meta(AutoencoderKL, vae_config())
        encoder = {ldm_vae_name(ours): tensor for ours, tensor in encoder_of(vae).items()}
        with pytest.raises(InputError, match=r"cannot be read without input_blocks\.1\.0"):
            configs_from_ldm({"out.2.weight": torch.ones(4, 32, 3, 3)}, encoder, "x.ckpt")


def test_stable_diffusion_1_5_comes_back_from_its_shapes():
    configs = named_config("sd15")
    unet, vae = meta(UNet2DConditionModel, configs["unet"]), meta(AutoencoderKL, configs["vae"])
    rename_key = partial(ldm_unet_name, config=unet.config)
    read = configs_from_ldm(
        {rename_key(ours): tensor for ours, tensor in unet.state_dict().items()},
        {ldm_vae_name(ours): tensor for ours, tensor in encoder_of(vae).items()},
        "the file",
    )
    for part in ("unet", "vae"):
        shared = read[part].keys() & configs[part].keys()
        assert {key: read[part][key] for key in shared} == {key: configs[part][key] for key in shared}
