"""Our walk through diffusers' layers against diffusers' own forward."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from metaprompts.errors import InputError
from metaprompts.modules.backbone import PyramidUNet
from metaprompts.modules.backbone.loading import named_config

MICRO = named_config("micro")["unet"] | {"in_channels": 4, "out_channels": 4}
CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
CONFIGS = {
    "stable diffusion 1": {"layers_per_block": 2, "attention_head_dim": 4},
    "stable diffusion 2": {
        "layers_per_block": 2,
        "use_linear_projection": True,
        "attention_head_dim": [2, 4, 8, 8],
        "cross_attention_dim": 24,
    },
    "one layer a block": {"layers_per_block": 1},
    "several transformers": {"transformer_layers_per_block": [1, 2, 3, 3]},
    "three levels": {
        "layers_per_block": 2,
        "down_block_types": [PLAIN, CROSS, CROSS],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "block_out_channels": [32, 64, 128],
        "transformer_layers_per_block": [1, 2, 3],
        "attention_head_dim": [2, 4, 8],
        "use_linear_projection": True,
    },
}


def build(**changes):
    torch.manual_seed(0)
    return UNet2DConditionModel.from_config(MICRO | changes).eval()


def inputs(unet, height=16, width=24, batch=2):
    """A latent, prompts, and the time vector that diffusers makes of step 371."""
    generator = torch.Generator().manual_seed(1)
    latent = torch.randn(batch, unet.config.in_channels, height, width, generator=generator)
    prompts = torch.randn(batch, 7, unet.config.cross_attention_dim, generator=generator)
    time = unet.time_embedding(unet.time_proj(torch.tensor([371])))
    return latent, time.detach(), prompts


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
def test_output_is_diffusers_own(changes):
    unet = build(**changes)
    latent, time, prompts = inputs(unet)
    ours = PyramidUNet(unet, refines=True)
    with torch.no_grad():
        expected = unet(latent, 371, encoder_hidden_states=prompts).sample
        pyramid = ours(latent, time, prompts)
        got = ours.to_latent(pyramid[0])
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert [level.shape[1] for level in pyramid] == list(ours.channels) == list(unet.config.block_out_channels)
    assert [tuple(level.shape[-2:]) for level in pyramid] == [(16 >> i, 24 >> i) for i in range(len(pyramid))]


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
def test_levels_come_after_the_second_layer_of_each_up_block(changes):
    """Of two layers or of three; the finest comes after the last layer of all."""
    unet = build(**changes)
    latent, time, prompts = inputs(unet)
    seen = {}
    hooks = []
    last = len(unet.up_blocks) - 1
    for index, block in enumerate(unet.up_blocks):
        layers = getattr(block, "attentions", None) or block.resnets
        layer = layers[-1 if index == last else 1]
        hooks.append(layer.register_forward_hook(lambda _, __, output, at=index: seen.__setitem__(at, output)))
    with torch.no_grad():
        unet(latent, 371, encoder_hidden_states=prompts)
        for hook in hooks:
            hook.remove()
        pyramid = PyramidUNet(unet, refines=True)(latent, time, prompts)
    for level, index in zip(pyramid, range(last, -1, -1), strict=True):
        output = seen[index][0] if isinstance(seen[index], tuple) else seen[index]
        torch.testing.assert_close(level, output, rtol=1e-5, atol=1e-5)


def test_each_image_may_have_its_own_time_and_prompts():
    unet = build()
    latent, time, prompts = inputs(unet)
    other = time + torch.randn(time.shape, generator=torch.Generator().manual_seed(2))
    ours = PyramidUNet(unet, refines=True)
    with torch.no_grad():
        together = ours(latent, torch.cat([time, other]), prompts)
        alone = [ours(latent[i : i + 1], each, prompts[i : i + 1]) for i, each in enumerate((time, other))]
        same_time = ours(latent, time, prompts)
    for level, first, second, same in zip(together, *alone, same_time, strict=True):
        torch.testing.assert_close(level, torch.cat([first, second]), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(same[:1], first, rtol=1e-4, atol=1e-5)
        assert (same[1] - second[0]).abs().mean() > 1e-3


def test_skips_of_another_size_are_resized_to_the_upsampled_map():
    """9x13 halves to 5x7, 3x4, 2x2; doubling that gives levels of 4x4, 8x8, 16x16, which the latent grows to."""
    unet = build()
    latent, time, prompts = inputs(unet, 9, 13)
    ours = PyramidUNet(unet, refines=True)
    with torch.no_grad():
        pyramid = ours(latent, time, prompts)
        assert [tuple(level.shape[-2:]) for level in pyramid] == [(16, 16), (8, 8), (4, 4), (2, 2)]
        assert ours.to_latent(pyramid[0]).shape == (2, 4, 16, 16)


def test_the_time_mlp_is_left_out_and_without_refinement_the_output_too():
    unet = build()
    latent, time, prompts = inputs(unet)
    refining, once = PyramidUNet(unet, refines=True), PyramidUNet(unet, refines=False)
    refining_names, once_names = ({name for name, _ in each.named_parameters()} for each in (refining, once))
    assert refining_names - once_names == {
        f"conv_{part}out.{kind}" for part in ("norm_", "") for kind in ("weight", "bias")
    }
    assert not any("time_embedding" in name for name in refining_names)
    with torch.no_grad():
        for level, other in zip(refining(latent, time, prompts), once(latent, time, prompts), strict=True):
            assert torch.equal(level, other)
    with pytest.raises(AssertionError):
        once.to_latent(latent)


def test_gradient_checkpointing_changes_no_gradient():
    unet = build().train()
    ours = PyramidUNet(unet, refines=True)
    gradients = []
    for checkpointing in (False, True):
        ours.gradient_checkpointing = checkpointing
        latent, time, prompts = inputs(unet)
        leaves = [tensor.clone().requires_grad_() for tensor in (latent, time, prompts)]
        pyramid = ours(*leaves)
        loss = ours.to_latent(pyramid[0]).square().mean() + sum(level.square().mean() for level in pyramid)
        expected = [*leaves, *ours.parameters()]
        gradients.append(torch.autograd.grad(loss, expected))
    for plain, checkpointed in zip(*gradients, strict=True):
        assert plain.abs().max() > 0
        torch.testing.assert_close(checkpointed, plain, rtol=1e-5, atol=1e-9)


def test_gradient_checkpointing_keeps_fewer_activations():
    ours = PyramidUNet(build().train(), refines=True)

    def kept(checkpointing):
        ours.gradient_checkpointing = checkpointing
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: sizes.append(tensor.numel()) or tensor, lambda x: x
        ):
            ours(*inputs(build()))
        return sum(sizes)

    assert kept(True) < kept(False) / 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"down_block_types": ["AttnDownBlock2D"] * 4}, "AttnDownBlock2D"),
        ({"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}, "middle block is UNetMidBlock2DSimpleCrossAttn"),
        ({"cross_attention_dim": [64, 64, 64, 64]}, "no single cross-attention size"),
        ({"in_channels": 9}, "takes 9 channels and outputs 4"),
    ],
)
def test_a_unet_that_does_not_fit_is_refused(changes, message):
    unet = build(**changes)
    with pytest.raises(InputError, match=message):
        PyramidUNet(unet, refines=True)


def test_an_inpainting_unet_can_take_one_step():
    unet = build(in_channels=9)
    latent, time, prompts = inputs(unet)
    with torch.no_grad():
        assert len(PyramidUNet(unet, refines=False)(latent, time, prompts)) == 4
