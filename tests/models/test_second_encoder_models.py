"""Models with a second encoder: as without at first, saved whole, and named by adapters that do not store it."""

import json
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from metaprompts.errors import InputError
from metaprompts.models.loading import load, load_adapters
from metaprompts.models.model import MetaPromptModel
from metaprompts.models.model_card import model_card
from metaprompts.modules.backbone.second_encoder import SecondEncoder
from metaprompts.recipes.loader import read_recipe
from metaprompts.training.build_model import build_model
from second_encoders import FAMILIES, model_with_second, randomize, second_folder, write_second
from slow import slow_except
from small import SMALL, smooth_images, tiny_backbone

ADAPTED = [
    *("--data.image_size", "64,64", "--prompts.count", "4", "--refinement.steps", "2"),
    *("--backbone.source", tiny_backbone(), "--training.trainable", "lora"),
]


def fresh(task, *more):
    torch.manual_seed(0)
    sized = [] if task == "pose" else ["--data.image_size", "64,64"]
    words = [*SMALL[task], *sized, "--prompts.count", "4", "--backbone.source", tiny_backbone(), *more]
    return build_model(read_recipe(f"micro_{task}", words)).eval()


@pytest.mark.parametrize(
    ("kind", "task"),
    slow_except(product(["dinov2", "convnext"], SMALL), ("dinov2", "segmentation"), ("convnext", "depth")),
)
def test_a_new_model_predicts_exactly_as_without(task, kind):
    """All other weights are drawn alike, and zero projections add nothing."""
    images = smooth_images(2, 64, 128)
    plain, second = fresh(task), fresh(task, "--backbone.second", second_folder(kind))
    with torch.no_grad():
        assert torch.equal(second(images), plain(images))
        randomize(second)
        assert not torch.allclose(second(images), plain(images))


@pytest.mark.parametrize("kind", slow_except(FAMILIES, "dinov2"))
def test_a_saved_model_needs_its_source_no_more(kind, tmp_path):
    write_second(tmp_path / "second", kind)
    model, images = model_with_second("segmentation", str(tmp_path / "second")), smooth_images(1, 64, 96)
    model.save(tmp_path / "model")
    (tmp_path / "second").rename(tmp_path / "moved")
    loaded = MetaPromptModel.from_pretrained(tmp_path / "model")
    loaded.latent_encoder.precise = model.latent_encoder.precise
    with torch.no_grad():
        assert torch.equal(loaded(images), model(images))
    assert loaded.config == model.config
    assert loaded.second_encoder.backbone.fingerprint() == loaded.config.backbone.second.fingerprint


def test_half_precision_stays_near(tmp_path):
    model, images = model_with_second("segmentation", second_folder("dinov3_vit")), smooth_images(1, 64, 64)
    model.save(tmp_path)
    half = load(tmp_path, "cpu", torch.bfloat16)
    with torch.no_grad():
        expected, found = model(images), half(images.bfloat16()).float()
    assert (found - expected).abs().mean() < 0.1 * expected.std()


def test_steps_end_with_the_prediction():
    """The maps are added to the pyramid of every step, and to those of training."""
    model, images = model_with_second("segmentation", second_folder("dinov2")), smooth_images(1, 64, 64)
    with torch.no_grad():
        maps, by_step = model.prompt_maps(images), list(model.prompt_maps_by_step(images))
        raw, _ = model.training_outputs(images, every_step=True)
        assert torch.equal(by_step[-1][0], maps[0])
        torch.testing.assert_close(raw[-1:], model(images))
        model.second_encoder.projections[0].bias.add_(1)
        assert not torch.allclose(next(model.prompt_maps_by_step(images))[0], by_step[0][0])


def test_a_window_of_an_image_is_predicted_like_an_image():
    model = model_with_second("segmentation", second_folder("dinov2"))
    image = (smooth_images(1, 64, 64)[0].permute(1, 2, 0) * 255).byte().numpy()
    whole = model.predict(image)
    windowed = model.predict(image, window=(64, 64), stride=(64, 64))
    assert (windowed.labels == whole.labels).all()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two adapters with the same second encoder, and one without."""
    home = tmp_path_factory.mktemp("adapters")
    second = ["--backbone.second", second_folder("dinov2")]
    for task, more in (("depth", second), ("segmentation", second), ("pose", [])):
        words = [*SMALL[task], *(ADAPTED if task != "pose" else ADAPTED[2:]), *more]
        model = build_model(read_recipe(f"micro_{task}", words)).eval()
        if more:
            randomize(model)
        model.save(home / task)
    return home


@pytest.mark.slow
def test_an_adapter_names_its_second_encoder_and_predicts_alike(folders):
    torch.manual_seed(7)
    loaded, images = load(folders / "depth", "cpu"), smooth_images(1, 64, 64)
    tensors = load_file(folders / "depth/model.safetensors")
    of_second = {name for name in tensors if name.startswith("second_encoder.")}
    assert of_second == {f"second_encoder.projections.{i}.{part}" for i in range(3) for part in ("weight", "bias")}
    named = json.loads((folders / "depth/config.json").read_text())["backbone"]["second"]
    assert named["source"] == second_folder("dinov2")
    again = load(folders / "depth", "cpu")
    with torch.no_grad():
        before = loaded(images)
        assert torch.equal(again(images), before)
        loaded.second_encoder.projections[0].weight.zero_()
        assert not torch.allclose(loaded(images), before)


@pytest.mark.slow
def test_adapters_share_weights_and_maps(folders, monkeypatch):
    encoded, plain = [], SecondEncoder._encoded
    monkeypatch.setattr(SecondEncoder, "_encoded", lambda self, images: encoded.append(1) or plain(self, images))
    models = load_adapters(tiny_backbone(), [folders / task for task in ("depth", "segmentation", "pose")], "cpu")
    seconds = [model.second_encoder for model in models]
    assert seconds[0].network is seconds[1].network
    assert seconds[2] is None
    image = smooth_images(1, 64, 64)
    with torch.no_grad():
        for model in models[:2]:
            assert torch.allclose(model(image), load(folders / model.task.name, "cpu")(image), atol=1e-5)
    # Once shared, and once by each model that is loaded alone.
    assert len(encoded) == 3


@pytest.mark.slow
def test_other_weights_are_reported(tmp_path):
    write_second(tmp_path / "second", "dinov2")
    words = [*SMALL["depth"], *ADAPTED, "--backbone.second", str(tmp_path / "second")]
    build_model(read_recipe("micro_depth", words)).save(tmp_path / "adapter")
    write_second(tmp_path / "second", "dinov2", layer_norm_eps=1e-3, image_size=28)
    with pytest.raises(InputError, match=r"second encoder .* with weights .* but .* has .*: provide the same encoder"):
        load(tmp_path / "adapter", "cpu")


def test_an_adapter_of_a_random_one_is_reported():
    with pytest.raises(InputError, match=r"saves no backbone\.second, but random:dinov2-micro would be random"):
        read_recipe("micro_depth", [*ADAPTED, "--backbone.second", "random:dinov2-micro"])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"network": {"model_type": "bert"}}, "describes a model of type bert"),
        ({"network": {"model_type": "dinov2", "hidden_size": -1}}, "expected 0 to 65536"),
        ({"mean": [0.5]}, "backbone.second.mean"),
        ({"extra": 1}, "unknown key backbone.second.extra"),
    ],
)
def test_a_damaged_config_is_reported(tmp_path, changed, said):
    model_with_second("depth", second_folder("dinov2")).save(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["backbone"]["second"] |= changed
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match=said):
        MetaPromptModel.from_pretrained(tmp_path)


def test_the_model_card_names_it():
    model = model_with_second("depth", second_folder("dinov2"))
    card = model_card(model.config)
    name = Path(second_folder("dinov2")).name
    assert f"| second encoder | {name} (frozen) |" in card
    assert f"The second encoder, {name}, has a license of its own." in card
