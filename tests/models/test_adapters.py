"""Small runs on a frozen backbone: saved without it, loaded onto it, several at once."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from metaprompts.cli import main
from metaprompts.embedded import embedded_folder
from metaprompts.errors import InputError
from metaprompts.models.loading import load, load_adapters
from metaprompts.models.model import MetaPromptModel
from metaprompts.modules.backbone import load_backbone
from metaprompts.modules.backbone.lora import LORA_MARK
from metaprompts.modules.backbone.vae_encoder import LatentEncoder
from metaprompts.recipes.loader import read_recipe
from metaprompts.training.build_model import build_model
from metaprompts.training.loop import training_step
from metaprompts.training.optimizer import make_optimizer
from slow import slow_except
from small import SMALL, tiny_backbone

BATCHES = {
    "depth": lambda: {"image": torch.rand(2, 3, 64, 64), "depth_m": torch.rand(2, 64, 64) + 1},
    "segmentation": lambda: {"image": torch.rand(2, 3, 64, 64), "labels": torch.randint(0, 2, (2, 64, 64))},
}


def recipe(task, trainable, *more):
    sized = ["--data.image_size", "64,64", "--prompts.count", "4", "--refinement.steps", "2"]
    sized += ["--backbone.source", tiny_backbone()]
    return read_recipe(f"micro_{task}", [*SMALL[task], *sized, "--training.trainable", trainable, *more])


def trained(task, trainable, *more):
    """A model after one step, so that nothing of it is as it began."""
    torch.manual_seed(0)
    made = recipe(task, trainable, *more)
    model = build_model(made)
    for parameter in (each for each in model.parameters() if each.requires_grad):
        parameter.grad = None
    training_step(model.train(), make_optimizer(model, made.optimizer), BATCHES[task](), 1.0)
    return model.eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    home = tmp_path_factory.mktemp("adapters")
    for task, trainable in (("depth", "lora"), ("segmentation", "prompts")):
        trained(task, trainable).save(home / task)
    return home


@pytest.mark.parametrize("trainable", slow_except(["lora", "prompts"], "lora"))
def test_only_what_is_not_the_backbone_learns(trainable):
    before, model = load_backbone(tiny_backbone()).unet.state_dict(), trained("depth", trainable)
    after = {name.replace(".base_layer", ""): each for name, each in model.unet.state_dict().items()}
    assert all(torch.equal(after[name], each) for name, each in before.items() if name in after)
    learning = {name for name, each in model.named_parameters() if each.requires_grad}
    of_unet = {name for name in learning if name.startswith("unet.")}
    assert all(LORA_MARK in name for name in of_unet)
    assert bool(of_unet) == (trainable == "lora")
    assert {name.split(".")[0] for name in learning - of_unet} == {"prompts", "refinement", "rearrangement", "head"}


@pytest.mark.slow
def test_lora_begins_as_the_backbone_and_reaches_every_attention():
    torch.manual_seed(0)
    full = build_model(recipe("depth", "full")).eval()
    torch.manual_seed(0)
    lora = build_model(recipe("depth", "lora", "--training.lora_rank", "4")).eval()
    for name, tensor in full.state_dict().items():
        if not name.startswith("unet."):
            lora.state_dict()[name].copy_(tensor)
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(lora(images), full(images))
    wrapped = sum(name.endswith("to_q.base_layer.weight") for name in lora.unet.state_dict())
    assert wrapped == sum(name.endswith("to_q.weight") for name in full.unet.state_dict()) > 4
    # Two factors of each of four projections.
    assert sum(LORA_MARK in name for name in lora.unet.state_dict()) == wrapped * 4 * 2


@pytest.mark.parametrize(
    ("task", "trainable"), slow_except([("depth", "lora"), ("segmentation", "prompts")], ("segmentation", "prompts"))
)
def test_a_saved_one_is_small_names_its_base_and_predicts_alike(task, trainable, folders, tmp_path):
    model, loaded = trained(task, trainable), load(folders / task, "cpu")
    images = torch.rand(1, 3, 64, 64)
    loaded.latent_encoder.precise = False
    with torch.inference_mode():
        torch.testing.assert_close(loaded(images), model(images))
    assert json.loads((folders / task / "config.json").read_text())["base"]["source"] == tiny_backbone()
    # Only a backbone of some size is much larger than what learns.
    large = trained(task, trainable, "--backbone.source", "micro")
    large.save(tmp_path)
    whole = sum(each.numel() * 4 for each in large.state_dict().values())
    assert (tmp_path / "model.safetensors").stat().st_size < 0.25 * whole


def test_another_base_is_refused(folders, tmp_path):
    other = load_backbone(tiny_backbone())
    with torch.no_grad():
        other.unet.conv_in.weight[0, 0, 0, 0] += 1
    with pytest.raises(InputError, match=rf"was trained on {tiny_backbone()} with weights .*: give the same base"):
        MetaPromptModel.from_pretrained(folders / "depth", base=other)


@pytest.mark.slow
def test_several_share_weights_and_latents(folders, monkeypatch):
    encoded = []
    plain = LatentEncoder._encoded
    monkeypatch.setattr(LatentEncoder, "_encoded", lambda self, images: encoded.append(1) or plain(self, images))
    models = load_adapters(tiny_backbone(), [folders / "depth", folders / "segmentation"], "cpu")
    # Attention is wrapped in one of them; what is frozen is the same memory in both.
    weights = [model.unet.conv_in.weight.data_ptr() for model in models]
    wrapped = models[0].unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.base_layer.weight
    weights += [
        wrapped.data_ptr(),
        models[1].unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.weight.data_ptr(),
    ]
    assert weights[0] == weights[1]
    assert weights[2] == weights[3]
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for model in models:
        model.predict(image)
    assert len(encoded) == 1


def test_a_shared_latent_is_scaled_by_each_for_itself(folders):
    """What one model had scaled was taken by another, which does not scale."""
    models = load_adapters(tiny_backbone(), [folders / "depth", folders / "segmentation"], "cpu")
    models[0].latent_encoder.scale = 0.25
    image = torch.rand(1, 3, 64, 64)
    scaled, plain = (model.latent_encoder(image) for model in models)
    assert torch.equal(scaled, plain * 0.25)


@pytest.mark.parametrize("base", ["micro-segmentation", "model"])
def test_a_model_for_a_task_is_no_base(folders, tmp_path, capsys, base):
    """The error was: no backbone at micro-segmentation."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    given = base if base.startswith("micro") else str(embedded_folder("micro-depth"))
    words = ["predict", given, str(tmp_path / "a.png"), "--adapter", str(folders / "depth")]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert f"{given} is a model for a task, not the backbone that {folders / 'depth'} was trained on: give" in printed
    assert printed.count("\n") == 1


@pytest.mark.slow
def test_predict_writes_what_all_see(folders, tmp_path, capsys):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    words = ["predict", tiny_backbone(), str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    adapters = [word for task in ("depth", "segmentation") for word in ("--adapter", str(folders / task))]
    assert main([*words, *adapters]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"a_depth.png", "a_depth_color.png", "a_labels.png", "a_overlay.png", "a_classes.json"}
    assert main([*words, "--adapter", str(folders / "depth"), "--adapter", str(folders / "depth")]) == 2
    assert "both predict depth: give only one of them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--backbone.source", "random:micro"], "keeps the UNet unchanged, but this UNet would be random"),
        (["--backbone.forget_unet", "true"], "keeps the UNet unchanged, but this UNet would be random"),
        (["--training.init_from", "somewhere"], "replaces the UNet"),
    ],
)
def test_what_makes_no_sense_is_refused(more, said):
    with pytest.raises(InputError, match=said):
        recipe("depth", "lora", *more)
