import json
import shutil

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

from metaprompts.embedded import embedded_folder
from metaprompts.errors import InputError
from metaprompts.modules.backbone.text_encoder import load_text_encoder
from texts import FULL_WIDTH, write_text_encoder

CAPTIONS = ["a street with brick houses, a red car", "", "zxqw 漢字 🙂 " * 60]


def independent(folder, texts):
    """Hidden states of all 77 tokens after the final norm, and the one at the first end of text."""
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    model = CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
    read = tokenizer(texts, padding="max_length", max_length=77, truncation=True)
    numbers = torch.tensor(read["input_ids"])
    ends = [row.index(tokenizer.eos_token_id) for row in read["input_ids"]]
    with torch.no_grad():
        (*_, last) = model(numbers, output_hidden_states=True).hidden_states
        hidden = getattr(model, "text_model", model).final_layer_norm(last)
    return hidden, torch.stack([row[end] for row, end in zip(hidden, ends, strict=True)])


def check_against_transformers(folder, source):
    encoder = load_text_encoder(str(source))
    hidden, ends = independent(folder, CAPTIONS)
    assert encoder.length == 77
    torch.testing.assert_close(encoder.captions(CAPTIONS), hidden, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(encoder.sentences(CAPTIONS), ends, rtol=1e-5, atol=1e-5)
    assert encoder.captions(CAPTIONS).dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in encoder.network.parameters())
    return encoder


def test_the_miniature_reads_as_transformers_does():
    check_against_transformers(embedded_folder("micro"), "micro")


def test_captions_are_what_stable_diffusion_is_conditioned_on():
    pipeline = StableDiffusionPipeline.from_pretrained(embedded_folder("micro"))
    encoder = load_text_encoder("micro")
    for caption in CAPTIONS:
        expected, _ = pipeline.encode_prompt(caption, "cpu", 1, False)
        assert torch.equal(encoder.captions([caption]), expected)


def test_a_folder_in_the_format_of_stable_diffusion(tmp_path):
    encoder = check_against_transformers(write_text_encoder(tmp_path), tmp_path)
    assert encoder.width == 16
    assert encoder.sentences(["a tree"] * 40).shape == (40, 16)
    assert encoder.captions([]).shape == (0, 77, 16)


@pytest.mark.full
def test_a_folder_of_full_width(tmp_path):
    assert check_against_transformers(write_text_encoder(tmp_path, FULL_WIDTH), tmp_path).width == 768


def test_weights_and_words_tell_encoders_apart(tmp_path):
    first = load_text_encoder(str(write_text_encoder(tmp_path / "first")))
    assert first.fingerprint() == load_text_encoder(str(tmp_path / "first")).fingerprint()
    shutil.copytree(tmp_path / "first", tmp_path / "moved")
    assert load_text_encoder(str(tmp_path / "moved")).fingerprint() == first.fingerprint()
    other = load_text_encoder(str(write_text_encoder(tmp_path / "other", seed=1)))
    assert other.fingerprint() != first.fingerprint()
    merges = tmp_path / "moved/tokenizer/merges.txt"
    merges.write_text("\n".join(merges.read_text().splitlines()[:10]))
    assert load_text_encoder(str(tmp_path / "moved")).fingerprint() != first.fingerprint()


def half_precision_only(folder, name):
    path = folder / "text_encoder/model.safetensors"
    halves = {name: each.half() for name, each in load_file(path).items()}
    torch.save(halves, path.with_name(name)) if name.endswith("bin") else save_file(halves, path.with_name(name))
    path.unlink()


@pytest.mark.parametrize("name", ["model.fp16.safetensors", "pytorch_model.fp16.bin"])
def test_half_precision_is_taken_where_there_is_no_other(tmp_path, name):
    write_text_encoder(tmp_path)
    whole = load_text_encoder(str(tmp_path)).sentences(["a tree"])
    half_precision_only(tmp_path, name)
    torch.testing.assert_close(load_text_encoder(str(tmp_path)).sentences(["a tree"]), whole, rtol=0.02, atol=0.02)


def without_tokenizer(folder):
    shutil.rmtree(folder / "tokenizer")


def without_weights(folder):
    (folder / "text_encoder/model.safetensors").unlink()


def without_a_tensor(folder):
    path = folder / "text_encoder/model.safetensors"
    tensors = load_file(path)
    tensors.pop(next(name for name in tensors if "final_layer_norm.weight" in name))
    save_file(tensors, path, {"format": "pt"})


def with_nan(folder):
    path = folder / "text_encoder/model.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values())).fill_(float("nan"))
    save_file(tensors, path, {"format": "pt"})


def with_config(**changes):
    def change(folder):
        path = folder / "text_encoder/config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def with_broken_config(folder):
    (folder / "text_encoder/config.json").write_text(json.dumps({"model_type": "clip_text_model", "hidden_size": 3}))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (without_tokenizer, "has no text encoder: expected tokenizer/"),
        (without_weights, "cannot be loaded"),
        (without_a_tensor, "lacks 1 tensors"),
        (with_nan, "NaN or infinity"),
        (with_broken_config, "cannot be loaded"),
        # Each commanded all memory, or hung.
        (with_config(num_hidden_layers=10**9), "num_hidden_layers is 1000000000; expected 0 to 64"),
        (with_config(vocab_size=65536, hidden_size=32768), "parameters, but its files have only"),
        (with_config(hidden_size=-8), "hidden_size is -8"),
    ],
)
def test_a_damaged_folder_is_one_line(tmp_path, damage, expected):
    damage(write_text_encoder(tmp_path))
    with pytest.raises(InputError, match=expected) as caught:
        load_text_encoder(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("random:micro", "random weights and no text encoder: set prompts.text_source"),
        ("model.safetensors", "a text encoder cannot be read from a single file"),
        ("nowhere", "no text encoder at nowhere"),
        ("/nowhere/at/all", "no text encoder at /nowhere/at/all"),
    ],
)
def test_what_is_no_source_is_one_line(tmp_path, monkeypatch, source, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=expected):
        load_text_encoder(source)
