import pytest
import torch

from metaprompts.errors import InputError
from metaprompts.recipes.sections import Optimizer
from metaprompts.training.optimizer import make_optimizer, parameter_groups
from small import small_model


def rates(model, settings):
    return {
        name: (group["lr_scale"], group["lr"], group["weight_decay"])
        for group in parameter_groups(model, settings)
        for name in group["names"]
    }


def test_every_trainable_parameter_is_in_one_group_and_the_vae_in_none():
    model = small_model("depth")
    groups = parameter_groups(
        model, Optimizer(lr=1.0, weight_decay=0.1, backbone_lr_mult=0.5, decay_bias_and_norm=False)
    )
    names = [name for group in groups for name in group["names"]]
    parameters = dict(model.named_parameters())
    assert sorted(names) == sorted(name for name, parameter in parameters.items() if parameter.requires_grad)
    assert not any(name.startswith("latent_encoder.") for name in names)
    for group in groups:
        assert len(group["names"]) == len(group["params"])
        assert all(parameters[name] is tensor for name, tensor in zip(group["names"], group["params"], strict=True))


def test_the_unet_learns_at_its_own_rate():
    got = rates(small_model("depth"), Optimizer(lr=1.0, weight_decay=0.1, backbone_lr_mult=0.25))
    assert {scale for name, (scale, _, _) in got.items() if name.startswith("unet.")} == {0.25}
    assert {scale for name, (scale, _, _) in got.items() if not name.startswith("unet.")} == {1.0}
    assert all(lr == scale for scale, lr, _ in got.values())
    assert got["unet.conv_out.weight"][0] == 0.25


def test_vectors_and_biases_need_not_decay():
    got = rates(small_model("depth"), Optimizer(lr=1.0, weight_decay=0.1, decay_bias_and_norm=False))
    assert got["unet.conv_in.weight"][2] == got["prompts.sets.0"][2] == got["refinement.time.0"][2] == 0.1
    assert got["unet.conv_in.bias"][2] == got["unet.conv_norm_out.weight"][2] == 0
    assert set(rates(small_model("depth"), Optimizer(lr=1.0, weight_decay=0.1)).values()) == {(1.0, 1.0, 0.1)}


def test_attention_norms_can_stand_apart():
    settings = Optimizer(lr=1.0, weight_decay=0.1, backbone_lr_mult=0.5, attention_norms_apart=True)
    got = rates(small_model("segmentation"), settings)
    apart = {name for name, rate in got.items() if rate == (1.0, 1.0, 0.0)}
    attention = {name for name in got if name.startswith("unet.") and ".attentions." in name and "norm" in name}
    assert apart == attention
    assert "unet.down_blocks.0.attentions.0.norm.weight" in apart
    assert "unet.down_blocks.0.attentions.0.transformer_blocks.0.norm3.bias" in apart
    assert got["unet.down_blocks.0.resnets.0.norm1.weight"] == (0.5, 0.5, 0.1)


def test_the_optimizer_is_the_released_adamw():
    optimizer = make_optimizer(small_model("depth"), Optimizer(lr=1e-3, weight_decay=0.1))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert all(group["betas"] == (0.9, 0.999) and group["eps"] == 1e-8 for group in optimizer.param_groups)


@pytest.mark.parametrize(
    "settings",
    [{"lr": -1.0}, {"lr": float("nan")}, {"weight_decay": -0.1}, {"backbone_lr_mult": -1.0}, {"max_grad_norm": 0.0}],
)
def test_nonsense_is_refused(settings):
    (name,) = settings
    with pytest.raises(InputError, match=f"optimizer.{name} is"):
        Optimizer(**({"lr": 1.0, "weight_decay": 0.0} | settings))
