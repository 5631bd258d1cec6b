"""Label prompts, from the recipe's words to the model's tokens."""

import json
import shutil

import pytest
import torch
from transformers import CLIPTextModel, CLIPTokenizer

import metaprompts.modules.backbone.text_encoder
from metaprompts.embedded import embedded_folder
from metaprompts.errors import InputError
from metaprompts.models.config import ModelConfig, Prompts
from metaprompts.models.loading import load
from metaprompts.models.model import MetaPromptModel
from metaprompts.models.text_prompts import TEMPLATES, resolved
from metaprompts.modules.meta_prompts.prompts import LABEL_TOKENS, LabelPrompts, TextAdapter
from metaprompts.recipes.loader import read_recipe
from metaprompts.tasks import Depth, Segmentation
from metaprompts.training.build_model import build_model
from metaprompts.training.warm_start import init_from
from slow import slow_except
from small import SMALL
from texts import write_text_encoder

SEGMENTATION = Segmentation(classes=("traffic_light", "tree"), width=16)


def made(task="segmentation", *words):
    settings = [*SMALL[task], "--backbone.source", "micro", "--prompts.kind", "label"]
    return build_model(read_recipe(f"micro_{task}", [*settings, *words]))


def hidden_at_the_end(folder, text):
    """What transformers makes of one text by itself, without padding: its last token."""
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    model = CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
    with torch.no_grad():
        return model(torch.tensor([tokenizer(text)["input_ids"]])).last_hidden_state[0, -1]


def test_tokens_are_means_over_the_templates():
    model = made("segmentation", "--prompts.templates", '["a photo of a {}.", "a {}, far away"]')
    folder = embedded_folder("micro")
    for token, name in zip(model.prompts.tokens, ("ground", "sky"), strict=True):
        sentences = (f"a photo of a {name}.", f"a {name}, far away")
        expected = torch.stack([hidden_at_the_end(folder, each) for each in sentences]).mean(dim=0)
        torch.testing.assert_close(token, expected, rtol=1e-4, atol=1e-5)


def test_a_folder_in_the_format_of_stable_diffusion_gives_its_own_tokens(tmp_path):
    write_text_encoder(tmp_path)
    prompts = Prompts(kind="label", templates=("{}",), text_source=str(tmp_path))
    filled, tokens = resolved(prompts, SEGMENTATION, 16)
    assert filled.labels == ("traffic light", "tree")
    expected = torch.stack([hidden_at_the_end(tmp_path, label) for label in filled.labels])
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)


def test_everything_that_decides_on_the_tokens_is_in_the_config():
    config = made("segmentation", "--prompts.count", "32").config.prompts
    assert (config.count, config.labels, config.templates) == (2, ("ground", "sky"), TEMPLATES)
    assert config.text_source == "micro"
    assert len(config.text_fingerprint) == 16


def test_joints_are_labels_as_words():
    labels = made("pose").config.prompts.labels
    assert (len(labels), labels[5]) == (17, "left shoulder")


def test_words_that_no_caption_had_are_spelled():
    tokens = made("depth", "--prompts.labels", "xylqwv,漢字,🙂").prompts.tokens
    assert tokens.shape == (3, 64)
    assert torch.isfinite(tokens).all()
    assert torch.cdist(tokens, tokens)[0, 1:].min() > 0.1


def test_a_label_model_needs_no_text_encoder_once_it_is_saved(tmp_path, monkeypatch):
    model = made("depth", "--prompts.labels", "kitchen,street", "--prompts.adapter", "true").eval()
    model.save(tmp_path / "model")
    monkeypatch.setattr(metaprompts.modules.backbone.text_encoder, "load_text_encoder", None)
    again = load(tmp_path / "model", "cpu")
    again.latent_encoder.precise = False
    assert again.config == model.config
    assert torch.equal(again.prompts.tokens, model.prompts.tokens)
    image = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8).numpy()
    assert (again.predict(image).depth_m == model.predict(image).depth_m).all()
    with pytest.raises(InputError, match="has label prompts and reads no captions"):
        again(torch.rand(1, 3, 64, 64), torch.rand(1, 2, 64))


@pytest.mark.parametrize("trainable", slow_except(["lora", "prompts"], "prompts"))
def test_tokens_are_saved_next_to_a_frozen_base(tmp_path, trainable):
    model = made("depth", "--prompts.labels", "kitchen,street", "--training.trainable", trainable)
    assert LABEL_TOKENS in model.own_tensors()
    model.save(tmp_path)
    assert torch.equal(load(tmp_path, "cpu").prompts.tokens, model.prompts.tokens)


def test_an_adapter_begins_at_the_text():
    torch.manual_seed(0)
    prompts = LabelPrompts(4, 8, steps=3, per_step=True, adapter=True)
    for adapter, each in zip(prompts.adapters.of_steps, prompts(2), strict=True):
        assert each.shape == (2, 4, 8)
        torch.testing.assert_close(each[0], prompts.tokens, rtol=0, atol=1e-3)
        first, _, second = adapter.change
        hidden = torch.nn.functional.gelu(prompts.tokens @ first.weight.T + first.bias)
        expected = prompts.tokens + 1e-4 * (hidden @ second.weight.T + second.bias)
        torch.testing.assert_close(each[1], expected)
    assert isinstance(adapter, TextAdapter)
    assert not torch.equal(prompts(1)[0], prompts(1)[1])


def test_labels_stay_when_a_training_starts_from_another(tmp_path):
    other = made("depth", "--prompts.labels", "kitchen,street")
    other.save(tmp_path)
    model = made("depth", "--prompts.labels", "garden,harbor")
    own = model.prompts.tokens.clone()
    assert not torch.equal(own, other.prompts.tokens)
    assert init_from(model, tmp_path) == []
    assert torch.equal(model.prompts.tokens, own)
    assert torch.equal(model.head.regress[0].weight, other.head.regress[0].weight)


def test_a_random_unet_listens_to_the_source_s_words():
    plain, forgetful = made(), made("segmentation", "--backbone.forget_unet", "true")
    assert torch.equal(plain.prompts.tokens, forgetful.prompts.tokens)


def test_a_source_given_by_name_brings_its_words():
    model = MetaPromptModel.from_backbone("micro", task=SEGMENTATION, prompts=Prompts(kind="label"))
    assert model.config.prompts.text_source == "micro"
    assert model.prompts.tokens.std() > 0.1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--prompts.kind", "labels"], "one of meta, label, caption"),
        (["--prompts.per_step", "true"], "prompts.adapter is false"),
        (["--prompts.labels", "wall, "], None),
        (["--prompts.labels", '["wall", ""]'], "expected a name for each prompt"),
        (["--prompts.labels", "[]"], "expected a name for each prompt"),
        (["--prompts.templates", "a photo"], "expected sentences with exactly one {} each"),
        (["--prompts.templates", "{} and {}"], "expected sentences with exactly one {} each"),
        (["--prompts.templates", "[]"], "prompts.templates is empty"),
    ],
)
def test_what_a_recipe_says_wrongly_is_one_line(words, expected):
    overrides = [*SMALL["segmentation"], "--prompts.kind", "label", *words]
    if expected is None:
        assert read_recipe("micro_segmentation", overrides).prompts.labels == ("wall",)
        return
    with pytest.raises(InputError) as caught:
        read_recipe("micro_segmentation", overrides)
    assert expected in str(caught.value)


def test_what_cannot_be_read_is_one_line(tmp_path):
    write_text_encoder(tmp_path)
    named = Prompts(kind="label", text_source="micro")
    with pytest.raises(InputError, match="depth has no class or joint names for label prompts: set prompts"):
        resolved(named, Depth(max_depth_m=1.0), 64)
    with pytest.raises(InputError, match="has width 16, but the UNet's cross-attention expects 64"):
        resolved(Prompts(kind="label", text_source=str(tmp_path)), SEGMENTATION, 64)
    with pytest.raises(InputError, match="made with text encoder 0123, but micro has"):
        resolved(Prompts(kind="label", text_source="micro", text_fingerprint="0123"), SEGMENTATION, 64)
    with pytest.raises(InputError, match="random weights and no text encoder"):
        made("segmentation", "--backbone.source", "random:micro")
    with pytest.raises(InputError, match=r"the text encoder is not known: set prompts\.text_source"):
        resolved(Prompts(kind="label"), SEGMENTATION, 64)


def test_a_config_from_before_there_were_kinds_is_of_meta_prompts(tmp_path):
    values = json.loads((embedded_folder("micro-depth") / "config.json").read_text())
    values["prompts"] = {"count": 32, "per_step": True, "adapter": True}
    assert ModelConfig.from_dict(values).prompts == Prompts(kind="meta", count=32, per_step=True, adapter=True)
    shutil.copytree(embedded_folder("micro-depth"), tmp_path / "model")
    (tmp_path / "model/config.json").write_text(json.dumps(values))
    assert load(tmp_path / "model", "cpu").config.prompts.kind == "meta"


def test_a_config_with_too_few_labels_is_refused():
    values = made().config.to_dict()
    values["prompts"]["labels"] = ["ground"]
    with pytest.raises(InputError, match="count is 2, but there are 1"):
        ModelConfig.from_dict(values)
