"""The model's own face; what holds for every task is in tests/tasks/test_contract.py."""

import numpy as np
import pytest
import torch

from metaprompts.errors import InputError
from metaprompts.models.config import ModelConfig, Prompts, Refinement
from metaprompts.models.model import MetaPromptModel
from metaprompts.tasks import Depth, Segmentation
from small import small_model


@pytest.mark.parametrize("task", ["segmentation", "depth", "pose"])
def test_the_pyramid_and_the_maps_are_what_the_head_is_made_from(task):
    model, images = small_model(task), torch.rand(2, 3, 64, 128)
    with torch.inference_mode():
        pyramid, maps, raw = model.pyramid(images), model.prompt_maps(images), model(images)
        assert [tuple(level.shape) for level in pyramid] == [
            (2, 32, 8, 16),
            (2, 64, 4, 8),
            (2, 96, 2, 4),
            (2, 96, 1, 2),
        ]
        if model.task.fused:
            assert [tuple(each.shape) for each in maps] == [(2, 4, 8, 16)]
        else:
            assert [tuple(each.shape) for each in maps] == [(2, 4, 16 >> level, 32 >> level) for level in range(4)]
        torch.testing.assert_close(model.head(maps, (64, 128)), raw)
        again = model.rearrangement(pyramid, model.prompts(batch=2)[-1])
    for each, other in zip(maps, again, strict=True):
        torch.testing.assert_close(each, other)


def test_the_vae_sees_images_from_minus_one_to_one_and_its_latent_is_not_scaled():
    model, seen = small_model("segmentation"), []
    model.latent_encoder.encoder.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    model.unet.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        model(images)
        latent = model.latent_encoder(images)
    torch.testing.assert_close(seen[0].float(), 2 * images - 1)
    torch.testing.assert_close(seen[1], latent)


@pytest.mark.parametrize(("margin", "seen"), [(0, (64, 64)), (1, (128, 128)), (2, (192, 192))])
def test_depth_enlarges_its_input_by_its_margin(margin, seen):
    task = Depth(max_depth_m=10.0, margin_blocks=margin)
    assert task.resize_for_backbone(torch.rand(1, 3, 70, 101)).shape[-2:] == seen
    assert task.resize_for_backbone(torch.rand(1, 3, 9, 9)).shape[-2:] == (max(margin, 1) * 64,) * 2


def test_prompts_and_time_of_the_last_step_change_the_output():
    model, images = small_model("depth"), torch.rand(1, 3, 64, 64)
    assert len(model.refinement.time) == 3
    with torch.inference_mode():
        before = model(images)
        for parameter in (model.refinement.time[0], model.refinement.time[2], model.prompts.sets[0]):
            kept = parameter.clone()
            parameter.add_(1)
            assert not torch.equal(model(images), before)
            parameter.copy_(kept)
        assert torch.equal(model(images), before)


@pytest.mark.parametrize("training", [False, True])
def test_predicting_uses_no_batch_statistics_and_leaves_the_model_as_it_was(training):
    """A model that was just being trained normalized a prediction by its own image, and its running means moved."""
    model = small_model("segmentation")
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    expected = model.predict(image).confidence
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train(training)
    np.testing.assert_array_equal(model.predict(image).confidence, expected)
    assert model.training == training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def config(**settings):
    task = Segmentation(classes=("a", "b"), width=16)
    return MetaPromptModel.from_backbone("random:micro", task=task, **settings).config


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"working_size": (48, 64)},
        {"prompts": Prompts(count=3, per_step=True), "refinement": Refinement(steps=1, modulated_time=False)},
    ],
)
def test_a_config_survives_being_written(settings):
    made = config(**settings)
    assert ModelConfig.from_dict(made.to_dict()) == made


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"working_size": "abc"}, "working_size is 'abc'"),
        ({"working_size": [1, 2, 3]}, "working_size is"),
        ({"prompts": {"count": 0}}, "prompts.count is 0"),
        ({"refinement": {"steps": 0}}, "refinement.steps is 0"),
        ({"prompts": 5}, "prompts is 5"),
        ({"task": "depth"}, "task is 'depth'"),
        ({"promts": {}}, "unknown key promts: did you mean prompts"),
    ],
)
def test_a_wrong_config_is_reported(changes, message):
    with pytest.raises(InputError, match=message):
        ModelConfig.from_dict(config().to_dict() | changes)


def test_no_attention_holds_the_matrix_of_all_scores():
    """All are scaled_dot_product_attention: there is nothing to slice."""
    from diffusers.models.attention_processor import Attention, AttnProcessor2_0

    model = small_model("depth")
    found = [each.processor for each in model.modules() if isinstance(each, Attention)]

    assert found
    assert all(isinstance(each, AttnProcessor2_0) for each in found)
