"""Training with a second encoder: its projections learn, its network does not, whatever the way of training."""

import json

import pytest
import torch
from safetensors.torch import load_file

from metaprompts.models.loading import load
from metaprompts.recipes.loader import read_recipe
from metaprompts.training.build_model import build_model
from metaprompts.training.loop import train
from metaprompts.training.memory_estimate import training_memory
from metaprompts.training.signals import TrainingStopped
from metaprompts.training.warm_start import init_from
from metaprompts.utils.callbacks import Callback
from second_encoders import FAMILIES, model_with_second, second_folder
from slow import slow_except
from small import SMALL, small_model, smooth_images, tiny_backbone
from training.images import made_recipe

FIXED = ("--training.num_threads", "1", "--training.steps", "4", "--optimizer.lr", "0.001")


class Stop(Callback):
    """Stops a training as an error after a checkpoint would."""

    def on_step_end(self, model, step, losses, *, lr, images, seconds, waited):
        if step == 2:
            raise TrainingStopped(step, 4, 15)


class Last(Callback):
    """Keeps the live model."""

    def on_train_begin(self, model, steps, split):
        self.model = model


def weights(out):
    return load_file(out / "last/model.safetensors")


def projections(tensors):
    return {name: each for name, each in tensors.items() if name.startswith("second_encoder.projections.")}


@pytest.mark.parametrize("kind", slow_except(FAMILIES, "convnext"))
def test_projections_learn_and_the_network_does_not(kind, images, tmp_path):
    """A run: the saved model is the live one."""
    recipe = made_recipe("depth", images, tmp_path, *FIXED, "--backbone.second", second_folder(kind))
    kept = Last()
    train(recipe, [kept])
    found = weights(tmp_path)
    assert all(each.any() for each in projections(found).values())
    before = build_model(recipe).second_encoder.network.state_dict()
    for name, tensor in before.items():
        assert torch.equal(found[f"second_encoder.network.{name}"], tensor), name
    loaded, image = load(tmp_path / "last", "cpu"), smooth_images(1, 64, 64)
    live = kept.model.eval()
    loaded.latent_encoder.precise = live.latent_encoder.precise
    with torch.no_grad():
        assert torch.equal(loaded(image), live(image))


@pytest.mark.parametrize("trainable", slow_except(["lora", "prompts"], "prompts"))
@pytest.mark.slow
def test_adapters_learn_projections_and_store_no_network(trainable, images, tmp_path):
    words = (*FIXED, "--training.trainable", trainable, "--backbone.second", second_folder("dinov2"))
    kept = Last()
    train(made_recipe("segmentation", images, tmp_path, *words), [kept])
    found = weights(tmp_path)
    assert all(each.any() for each in projections(found).values())
    assert not [name for name in found if name.startswith("second_encoder.network.")]
    loaded, image = load(tmp_path / "last", "cpu"), smooth_images(1, 64, 64)
    live = kept.model.eval()
    loaded.latent_encoder.precise = live.latent_encoder.precise
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), live(image))


WAYS = {
    "cached": ("--backbone.cache_latents", "true", "--augment.color", "false"),
    "averaged": ("--training.ema_decay", "0.9"),
    "every step": ("--training.step_decay", "0.8"),
    "in bf16": ("--training.precision", "bf16"),
}


def stopped(recipe, **options):
    """Train to the end, stopped after two steps on the way."""
    with pytest.raises(TrainingStopped):
        train(recipe, [Stop()], **options)
    train(recipe, resume="auto")


@pytest.mark.parametrize("way", slow_except(WAYS, "every step"))
@pytest.mark.slow
def test_a_stopped_training_ends_bit_for_bit_as_another(way, images, tmp_path):
    words = (*FIXED, *WAYS[way], "--training.checkpoint_seconds", "0", "--backbone.second", second_folder("dinov2"))
    train(made_recipe("depth", images, tmp_path / "straight", *words))
    stopped(made_recipe("depth", images, tmp_path / "stopped", *words))
    one, other = weights(tmp_path / "straight"), weights(tmp_path / "stopped")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_the_second_encoder_must_be_the_same_to_resume(images, tmp_path):
    words = (*FIXED, "--training.checkpoint_seconds", "0")
    recipe = made_recipe("depth", images, tmp_path, *words, "--backbone.second", second_folder("dinov2"))
    with pytest.raises(TrainingStopped):
        train(recipe, [Stop()])
    with pytest.raises(Exception, match=r"differs from this run in backbone\.second"):
        train(made_recipe("depth", images, tmp_path, *words), resume="auto")


@pytest.mark.slow
def test_a_cached_run_is_that_without_a_cache(images, tmp_path):
    """Up to the last bits, which depend on the batch that is encoded."""
    words = (*FIXED, "--backbone.second", second_folder("convnext"), "--augment.color", "false")
    for name in ("true", "false"):
        train(made_recipe("depth", images, tmp_path / name, *words, "--backbone.cache_latents", name))
    one, other = weights(tmp_path / "true"), weights(tmp_path / "false")
    for name, tensor in projections(one).items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("source", ["random:dinov2-micro", "folder", "facebook/dinov2-small"])
@pytest.mark.slow
def test_memory_counts_it(source, tmp_path):
    """Nothing is downloaded."""
    source = second_folder("convnext") if source == "folder" else source
    words = ["--data.image_size", "64,64", "--backbone.source", tiny_backbone(), "--refinement.steps", "1"]
    recipe, plain = (read_recipe("micro_depth", [*words, *more]) for more in (["--backbone.second", source], []))
    found, without = training_memory(recipe), training_memory(plain)
    assert found.peak.total > without.peak.total
    if source != "facebook/dinov2-small":
        model = build_model(recipe)
        assert found.parameters == sum(each.numel() for each in model.parameters())
        assert found.trained == sum(each.numel() for each in model.parameters() if each.requires_grad)
    else:
        assert found.parameters - found.trained > 22_056_576


def test_a_run_without_it_is_a_start(tmp_path, caplog):
    small_model("segmentation").save(tmp_path)
    model = model_with_second("segmentation", second_folder("dinov2"), backbone="random:micro")
    network = {name: each.clone() for name, each in model.second_encoder.network.state_dict().items()}
    fresh = init_from(model, tmp_path)
    assert "second_encoder.projections.0" in fresh
    assert all(torch.equal(each, network[name]) for name, each in model.second_encoder.network.state_dict().items())
    assert torch.equal(model.unet.conv_in.weight, small_model("segmentation").unet.conv_in.weight)


@pytest.mark.parametrize(("kind", "taken"), [("dinov2", True), ("dinov3_vit", False)])
def test_projections_are_taken_only_for_the_same_encoder(kind, taken, tmp_path, caplog):
    first = model_with_second("segmentation", second_folder("dinov2"))
    first.save(tmp_path)
    model = model_with_second("segmentation", second_folder(kind))
    for parameter in model.second_encoder.projections.parameters():
        parameter.data.zero_()
    init_from(model, tmp_path)
    same = torch.equal(model.second_encoder.projections[0].weight, first.second_encoder.projections[0].weight)
    assert same == taken
    assert ("its projections are not copied" in caplog.text) == (not taken)


def test_recipes_name_it(tmp_path):
    recipe = read_recipe("micro_depth", [*SMALL["depth"], "--backbone.second", "facebook/dinov2-base"])
    assert json.loads(json.dumps(recipe.to_dict()))["backbone"]["second"] == "facebook/dinov2-base"
    assert read_recipe("nyu").backbone.second is None
