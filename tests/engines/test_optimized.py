"""What is computed beforehand changes nothing."""

import pytest
import torch
from diffusers.models.upsampling import Upsample2D
from torch import nn

import metaprompts
from metaprompts.engines.fused_layers import doubling_convolution, fold_batch_norms, folded_convolution
from metaprompts.engines.optimized import OptimizedModel
from metaprompts.errors import InputError
from metaprompts.modules.backbone.lora import add_lora
from slow import slow_except
from small import small_model, smooth_images

TASKS = ("segmentation", "depth", "pose")


def difference(model: nn.Module, images: torch.Tensor, **settings: int) -> float:
    with torch.no_grad():
        plain = model(images)
        return float((OptimizedModel(model, **settings)(images) - plain).abs().max() / plain.abs().max())


@pytest.mark.parametrize("task", TASKS)
def test_equals_the_plain_path_for_each_task(task: str) -> None:
    """Embedded models on two images, whose latents do not halve evenly."""
    model = metaprompts.load(f"micro-{task}", "cpu")

    assert difference(model, smooth_images(2, 128, 168)) < 1e-5


@pytest.mark.parametrize("task", slow_except(TASKS, "segmentation", "pose"))
def test_is_the_same_method_in_double_precision(task: str) -> None:
    """What is left in float32 is rounding."""
    model = metaprompts.load(f"micro-{task}", "cpu").double()

    assert difference(model, smooth_images(1, 128, 128).double()) < 1e-12


@pytest.mark.parametrize(
    "changed",
    [
        {"refinement": {"modulated_time": False}},
        {"refinement": {"steps": 1}},
        {"refinement": {"match_latent": True}},
        {"rearrangement": {"enabled": False}},
    ],
)
def test_knows_the_switches_of_the_method(changed: dict[str, dict[str, object]]) -> None:
    model = _depth_model(changed).double()

    assert difference(model, smooth_images(1, 64, 64).double()) < 1e-12


def test_low_rank_changes_are_merged() -> None:
    model = small_model("depth").double()
    add_lora(model.unet, rank=2, alpha=4)
    for name, tensor in model.named_parameters():
        if ".lora_" in name:
            nn.init.normal_(tensor, std=0.3)

    assert difference(model, smooth_images(1, 64, 64).double()) < 1e-12


def test_captions_differ_from_image_to_image() -> None:
    model = _caption_model().double()
    images, context = smooth_images(2, 64, 64).double(), torch.randn(2, 5, 64).double()

    with torch.no_grad():
        plain, prepared = model(images, context), OptimizedModel(model)(images, context)

    assert (plain[0] - plain[1]).abs().max() > 1e-3
    assert torch.allclose(plain, prepared, rtol=0, atol=1e-12)


def test_fewer_steps_give_the_pyramid_of_an_earlier_step_to_the_last_prompts() -> None:
    """Rearrangement and head were trained with the last step's prompts; with an earlier step's they are lost."""
    model = small_model("depth").double()
    images = smooth_images(1, 64, 64).double()

    with torch.no_grad():
        latent, prompts = model.latent_encoder(images), model.prompts(1, None)
        second = list(model.refinement.pyramids(model.unet, latent, prompts))[1]
        expected = model.head(model.rearrangement(second, prompts[-1]), (64, 64))

        assert torch.allclose(OptimizedModel(model, steps=2)(images), expected, rtol=0, atol=1e-12)


def test_refuses_more_steps_than_were_trained() -> None:
    with pytest.raises(InputError, match="4 refinement steps requested, but the model has 3: give 1 to 3"):
        OptimizedModel(small_model("depth"), steps=4)


def test_shares_the_weights_it_need_not_change() -> None:
    model = small_model("depth")
    own = {tensor.data_ptr() for tensor in model.parameters()}

    prepared = OptimizedModel(model)

    fresh = [name for name, tensor in prepared.named_parameters() if tensor.data_ptr() not in own]
    folded = ("conditions.to_keys_values", "encode.latent.layers.conv_out", "decode.head", "decode.rearrangement")
    assert [name for name in fresh if not name.startswith(folded) and ".upsamplers." not in name] == []


def test_leaves_the_model_as_it_was() -> None:
    model = small_model("depth")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trained = {name for name, tensor in model.named_parameters() if tensor.requires_grad}

    OptimizedModel(model)(smooth_images(1, 64, 64))

    assert trained == {name for name, tensor in model.named_parameters() if tensor.requires_grad}
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 5)])
def test_doubling_then_convolution_is_one_transposed_convolution(height: int, width: int) -> None:
    torch.manual_seed(0)
    layer = Upsample2D(3, use_conv=True, out_channels=2).double()
    features = torch.randn(2, 3, height, width).double()

    assert torch.allclose(doubling_convolution(layer)(features), layer(features), rtol=0, atol=1e-14)


def test_batch_norms_go_into_the_convolution_before_them() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.ConvTranspose2d(4, 2, 4, stride=2, padding=1), nn.BatchNorm2d(2),
    ).double().eval()  # fmt: skip
    for norm in (layers[1], layers[4]):
        for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
            nn.init.uniform_(tensor, 0.5, 2)
    features = torch.randn(1, 3, 5, 5).double()
    with torch.no_grad():
        expected = layers(features)

        fold_batch_norms(layers)

        assert not [each for each in layers if isinstance(each, nn.BatchNorm2d)]
        assert torch.allclose(layers(features), expected, rtol=0, atol=1e-14)


def test_half_of_the_moments_is_never_computed() -> None:
    torch.manual_seed(0)
    first, then = nn.Conv2d(5, 8, 3, padding=1).double(), nn.Conv2d(8, 8, 1).double()
    features = torch.randn(1, 5, 6, 6).double()

    folded = folded_convolution(first, then, 4)

    assert folded.out_channels == 4
    assert torch.allclose(folded(features), then(first(features))[:, :4], rtol=0, atol=1e-14)


def _depth_model(changed: dict[str, dict[str, object]]) -> nn.Module:
    from dataclasses import replace

    torch.manual_seed(0)
    config = small_model("depth").config
    parts = {name: replace(getattr(config, name), **values) for name, values in changed.items()}
    return metaprompts.MetaPromptModel(replace(config, **parts)).eval()


def _caption_model() -> nn.Module:
    return _depth_model({"prompts": {"kind": "caption", "count": 5, "adapter": True}})
