"""Training every refinement step: what is joined, weighted, recomputed and counted."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from metaprompts.errors import InputError
from metaprompts.models.config import Refinement
from metaprompts.models.model import MetaPromptModel
from metaprompts.recipes.loader import read_recipe
from metaprompts.training.memory_estimate import training_memory
from metaprompts.training.train_step import LossModule, step_losses
from slow import slow_except
from small import small_model, smooth_images

TASKS = ["segmentation", "depth", "pose"]


def batch_for(task: str, count: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    targets = {
        "segmentation": {"labels": torch.randint(0, 2, (count, 64, 64), generator=generator)},
        "depth": {"depth_m": torch.rand(count, 64, 64, generator=generator) * 5 + 1},
        "pose": {"keypoints": torch.rand(count, 17, 3, generator=generator) * 60},
    }
    return {"image": smooth_images(count, 64, 64), **targets[task]}


@pytest.mark.parametrize("task", slow_except(TASKS, "segmentation"))
def test_joined_steps_are_what_each_step_alone_gives(task):
    model = small_model(task)
    images = batch_for(task)["image"]
    with torch.no_grad():
        raw, auxiliary = model.training_outputs(images, every_step=True)
        alone = [model.head(maps, (64, 64)) for maps in model.prompt_maps_by_step(images)]
        last, _ = model.training_outputs(images)
    torch.testing.assert_close(raw, torch.cat(alone), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(raw[-2:], last, rtol=1e-4, atol=1e-4)
    assert (auxiliary is None) == (model.auxiliary_head is None)


@pytest.mark.parametrize("task", slow_except(TASKS, "segmentation"))
def test_recomputing_changes_neither_gradients_nor_statistics(task):
    """Checkpointing alone counted every batch twice in batch norm's running statistics."""
    kept = small_model(task).train()
    recomputing = copy.deepcopy(kept)
    batch = batch_for(task)
    torch.manual_seed(0)
    losses = LossModule(recomputing, step_decay=0.5)(batch)
    torch.stack(list(losses.values())).sum().backward()

    latent = kept.latent_encoder(kept.task.resize_for_backbone(batch["image"]))
    prompts = kept.prompts(2)
    pyramids = list(kept.refinement.pyramids(kept.unet, latent, prompts))
    joined = [torch.cat(levels) for levels in zip(*pyramids, strict=True)]
    torch.manual_seed(0)
    raw, auxiliary = kept._read(joined, torch.cat(prompts), (64, 64))
    plain = step_losses(kept.task, raw, auxiliary, batch, None, 0.5)
    torch.stack(list(plain.values())).sum().backward()

    assert losses.keys() == plain.keys()
    for name, parameter in kept.named_parameters():
        other = dict(recomputing.named_parameters())[name]
        assert (parameter.grad is None) == (other.grad is None), name
        if parameter.grad is not None:
            torch.testing.assert_close(other.grad, parameter.grad, rtol=1e-4, atol=1e-6, msg=name)
    norms = [module for module in recomputing.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert all(norm.num_batches_tracked == 1 and norm.momentum == 0.1 for norm in norms)
    for name, buffer in kept.named_buffers():
        torch.testing.assert_close(dict(recomputing.named_buffers())[name], buffer, msg=name)


def test_earlier_steps_count_less():
    """Three steps of one image, target 1 m, predictions e, e^2 and e^3 m: SILog with focus 0 is 1, 2 and 3; with decay
    0.5 the first counts a quarter, the second a half.
    """
    model = small_model("depth")
    task = replace(model.task, variance_focus=0.0)
    raw = torch.stack([torch.full((1, 4, 4), float(torch.tensor(power).exp())) for power in (1.0, 2.0, 3.0)])
    batch = {"image": torch.zeros(1, 3, 4, 4), "depth_m": torch.ones(1, 4, 4)}
    losses = step_losses(task, raw, None, batch, None, 0.5)
    assert losses["silog"].item() == pytest.approx(3)
    assert losses["earlier_steps"].item() == pytest.approx(0.25 * 1 + 0.5 * 2)
    assert step_losses(task, raw[-1:], None, batch, None, None).keys() == {"silog"}


def test_steps_of_any_size_can_be_joined():
    """At sizes that halving does not divide, the first step enlarges what comes in; from its pyramid on all agree."""
    model = small_model("segmentation")
    raw, _ = model.training_outputs(torch.rand(1, 3, 72, 104), every_step=True)
    assert raw.shape == (3, 2, 72, 104)


@pytest.mark.slow
def test_memory_counts_the_steps():
    """Between once and K times the memory: the heads' activations of all steps are computed again, not kept."""
    recipe = read_recipe("micro_depth", ["--data.image_size", "64,64", "--augment.crop_size", "64,64"])
    every = replace(recipe, training=replace(recipe.training, step_decay=0.8))
    alone = training_memory(recipe).peak.total
    assert alone < training_memory(every).peak.total < 3 * alone


@pytest.mark.parametrize("value", ["0", "1.5", "-1"])
def test_decay_is_a_share(value):
    with pytest.raises(InputError, match=r"training\.step_decay is"):
        read_recipe("micro_depth", ["--training.step_decay", value])


def test_one_step_has_no_earlier_ones():
    model = small_model("depth")
    one = MetaPromptModel(replace(model.config, refinement=Refinement(steps=1))).train()
    assert LossModule(one, step_decay=0.8)(batch_for("depth")).keys() == {"silog"}
