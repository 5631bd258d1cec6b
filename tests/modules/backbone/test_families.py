"""Every family in docs/backbones.md, as a tiny folder that diffusers writes and its own UNet checks."""

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from metaprompts.errors import InputError
from metaprompts.models.model import MetaPromptModel
from metaprompts.modules.backbone import PyramidUNet, load_backbone
from metaprompts.modules.backbone.loading import build_backbone, named_config
from metaprompts.modules.backbone.unet import tapped_layer
from metaprompts.recipes.loader import read_recipe
from metaprompts.training.build_model import build_model
from metaprompts.training.memory_estimate import training_memory
from slow import slow_except

DOWN, CROSS_DOWN, UP, CROSS_UP = "DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"
SD1 = {
    "block_out_channels": [16, 16, 32, 32],
    "down_block_types": [CROSS_DOWN, CROSS_DOWN, CROSS_DOWN, DOWN],
    "up_block_types": [UP, CROSS_UP, CROSS_UP, CROSS_UP],
    "layers_per_block": 2,
    "attention_head_dim": 4,
    "cross_attention_dim": 32,
    "norm_num_groups": 8,
}
SD2 = SD1 | {"attention_head_dim": [2, 2, 4, 4], "use_linear_projection": True, "upcast_attention": True}
SDXL = {
    "block_out_channels": [16, 16, 32],
    "down_block_types": [DOWN, CROSS_DOWN, CROSS_DOWN],
    "up_block_types": [CROSS_UP, CROSS_UP, UP],
    "layers_per_block": 2,
    "transformer_layers_per_block": [1, 2, 3],
    "attention_head_dim": [2, 2, 4],
    "use_linear_projection": True,
    "cross_attention_dim": 32,
    "norm_num_groups": 8,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 64,
}
FAMILIES = {
    "sd1": SD1,
    "sd2": SD2,
    "sdxl": SDXL,
    # Pruned in places: transformers per layer, and a middle block without attention.
    "ssd-1b": SDXL
    | {
        "mid_block_type": "UNetMidBlock2D",
        "transformer_layers_per_block": [1, [2, 2], [3, 3]],
        "reverse_transformer_layers_per_block": [[3, 3, 2], [2, 1, 1], 1],
    },
    "bk-sdm-base": SD1 | {"layers_per_block": 1},
    "bk-sdm-small, small-sd": SD1 | {"layers_per_block": 1, "mid_block_type": None},
    "bk-sdm-tiny, tiny-sd": SD1
    | {
        "layers_per_block": 1,
        "mid_block_type": None,
        "block_out_channels": [16, 16, 32],
        "down_block_types": [CROSS_DOWN] * 3,
        "up_block_types": [CROSS_UP] * 3,
    },
}
VAE = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [8] * 4,
    "norm_num_groups": 4,
}
SMALL = ["--data.image_size", "64,64", "--prompts.count", "4", "--refinement.steps", "2", "--task.width", "8"]


# Three levels, and fewer layers.
_QUICK = ("sdxl", "bk-sdm-tiny, tiny-sd")


@pytest.fixture(params=FAMILIES)
def folder(request, tmp_path):
    """A folder written by diffusers itself."""
    torch.manual_seed(0)
    UNet2DConditionModel(**FAMILIES[request.param]).save_pretrained(tmp_path / "unet")
    AutoencoderKL(**VAE).save_pretrained(tmp_path / "vae")
    return tmp_path


def diffusers_output(folder, latent, step, prompts):
    """The noise that diffusers' pipeline would predict, and the time vector that leads to it."""
    unet = UNet2DConditionModel.from_pretrained(folder / "unet").eval()
    time = unet.time_embedding(unet.time_proj(torch.tensor([step])))
    added = {}
    if unet.config.addition_embed_type == "text_time":
        added = {"text_embeds": torch.ones(2, 16), "time_ids": torch.arange(12.0).reshape(2, 6)}
        sizes = unet.add_time_proj(added["time_ids"].flatten()).reshape(2, -1)
        time = time + unet.add_embedding(torch.cat([added["text_embeds"], sizes], dim=-1))
    output = unet(latent, step, encoder_hidden_states=prompts, added_cond_kwargs=added).sample
    return output, time


def test_output_is_that_of_diffusers(folder):
    """With the time vector that diffusers would use, for XL including pooled text and sizes."""
    generator = torch.Generator().manual_seed(1)
    latent = torch.randn(2, 4, 16, 24, generator=generator)
    prompts = torch.randn(2, 5, 32, generator=generator)
    ours = PyramidUNet(load_backbone(str(folder)).unet.eval(), refines=True)
    with torch.no_grad():
        expected, time = diffusers_output(folder, latent, 371, prompts)
        pyramid = ours(latent, time, prompts)
        torch.testing.assert_close(ours.to_latent(pyramid[0]), expected, rtol=1e-5, atol=1e-5)
    assert [level.shape[1:] for level in pyramid] == [
        (width, 16 >> level, 24 >> level) for level, width in enumerate(ours.channels)
    ]


@pytest.mark.parametrize("folder", slow_except(FAMILIES, *_QUICK), indirect=True)
def test_the_middle_layer_of_each_up_block_is_tapped(folder):
    blocks = load_backbone(str(folder)).unet.up_blocks
    assert {len(block.resnets): tapped_layer(block) for block in blocks} in ({3: 1}, {2: 1})


@pytest.mark.parametrize("folder", slow_except(FAMILIES, *_QUICK), indirect=True)
def test_it_trains_saves_and_loads(folder, tmp_path):
    """A gradient reaches every trained tensor; the saved model needs the folder no more and predicts the same."""
    recipe = read_recipe("micro_depth", [*SMALL, "--task.filters", "4", f"--backbone.source={folder}"])
    torch.manual_seed(0)
    model = build_model(recipe).train()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    model.training_outputs(images)[0].square().mean().backward()
    missing = [name for name, each in model.named_parameters() if each.requires_grad and each.grad is None]
    assert missing == []
    model.eval().save(tmp_path / "model")
    for part in ("unet", "vae"):
        (folder / part).rename(folder / f"{part}-moved")
    with torch.no_grad():
        loaded = MetaPromptModel.from_pretrained(tmp_path / "model")
        torch.testing.assert_close(loaded(images), model(images), rtol=1e-5, atol=1e-5)


# Counting a step takes up to 10 seconds; the others are counted by `make test-full`.
@pytest.mark.parametrize(
    "folder",
    [pytest.param(name, marks=[] if name == "bk-sdm-tiny, tiny-sd" else pytest.mark.full) for name in FAMILIES],
    indirect=True,
)
@pytest.mark.slow
def test_memory_is_that_of_the_family(folder):
    computed = training_memory(read_recipe("micro_depth", [*SMALL, f"--backbone.source={folder}"]))
    model = build_model(read_recipe("micro_depth", [*SMALL, f"--backbone.source={folder}"]))
    assert computed.parameters == sum(each.numel() for each in model.parameters())
    assert computed.architecture == str(folder)


@pytest.mark.parametrize(
    ("name", "parameters"), [("sd15", 859_520_964), ("sd21", 865_910_724), ("sdxl", 2_567_463_684)]
)
def test_full_size_architectures(name, parameters):
    """Parameter counts of the published UNets."""
    with torch.device("meta"):
        unet = build_backbone(**named_config(name)).unet
    assert sum(each.numel() for each in unet.parameters()) == parameters
    assert [level.heads for level in _first_attentions(unet)] == {
        "sd15": [8, 8, 8],
        "sd21": [5, 10, 20],
        "sdxl": [10, 20],
    }[name]
    if name != "sd15":
        assert {level.inner_dim // level.heads for level in _first_attentions(unet)} == {64}


def _first_attentions(unet):
    blocks = [block for block in unet.down_blocks if hasattr(block, "attentions")]
    return [block.attentions[0].transformer_blocks[0].attn1 for block in blocks]


@pytest.mark.parametrize(
    ("channels", "kind"), [(9, "inpainting"), (5, "depth-to-image"), (8, "instruction-based editing")]
)
def test_other_models_are_named(tmp_path, channels, kind):
    UNet2DConditionModel(**SD1 | {"in_channels": channels}).save_pretrained(tmp_path / "unet")
    AutoencoderKL(**VAE).save_pretrained(tmp_path / "vae")
    with pytest.raises(
        InputError, match=f"{kind}.*takes {channels} channels, but the VAE outputs 4; choose a text-to-image"
    ):
        load_backbone(str(tmp_path))


@pytest.mark.parametrize(("recipe", "name"), [("nyu_sd21", "sd21"), ("nyu_sdxl", "sdxl")])
def test_recipes_of_other_backbones_differ_from_nyu_only_in_it(recipe, name):
    changed, released = (read_recipe(each).to_dict() for each in (recipe, "nyu"))
    source = changed["backbone"].pop("source")
    assert source.startswith("stabilityai/")
    assert changed["training"].pop("output_dir") == f"runs/{recipe}"
    del released["backbone"]["source"], released["training"]["output_dir"]
    assert changed == released
    assert len(named_config(name)["unet"]["block_out_channels"]) == (3 if name == "sdxl" else 4)


def test_single_files_of_xl_have_its_heads_and_transformers(tmp_path):
    """LDM names: heads of 64 channels, several transformers in a layer, three levels."""
    from metaprompts.modules.backbone.ldm_config import configs_from_ldm
    from metaprompts.modules.backbone.ldm_names import ldm_unet_name, ldm_vae_name

    configs = named_config("sdxl")
    with torch.device("meta"):
        backbone = build_backbone(**configs)
    state = backbone.unet.state_dict()
    unet = {
        ldm_unet_name(name, configs["unet"]): each
        for name, each in state.items()
        if not name.startswith("add_embedding.")
    }
    vae = {ldm_vae_name(name): each for name, each in backbone.vae.state_dict().items()}
    found = configs_from_ldm(unet, vae, "x.safetensors")["unet"]
    for key in (
        "block_out_channels",
        "transformer_layers_per_block",
        "attention_head_dim",
        "cross_attention_dim",
        "down_block_types",
        "use_linear_projection",
    ):
        assert found[key] == configs["unet"][key], key
