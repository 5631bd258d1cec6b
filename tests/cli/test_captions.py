"""Models that read captions, on the command line."""

import json

import numpy as np
import pytest
from PIL import Image

from captioners import write_captioner
from metaprompts.captioning.captioner import Captioner
from metaprompts.cli import main
from metaprompts.models.loading import load
from metaprompts.recipes.loader import read_recipe
from metaprompts.training.build_model import build_model
from slow import slow_except
from small import SMALL
from texts import write_text_encoder


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A depth model that reads captions by the miniature's text encoder."""
    folder = tmp_path_factory.mktemp("reader")
    words = [*SMALL["depth"], "--data.image_size", "64,64", "--prompts.kind", "caption", "--backbone.source", "micro"]
    build_model(read_recipe("micro_depth", words)).save(folder)
    return folder


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name in "ab":
        Image.fromarray(generator.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


def predicted(reader, images, out, *words):
    assert main(["predict", str(reader), str(images), "--out", str(out), "--raw", *words]) == 0
    return [np.load(out / f"{name}_depth.npy") for name in "ab"]


@pytest.mark.slow
def test_one_caption_for_all_images(reader, images, tmp_path):
    model = load(reader)
    for path, depth_m in zip("ab", predicted(reader, images, tmp_path / "out", "--caption", "a room"), strict=True):
        expected = model.predict(images / f"{path}.png", caption="a room").depth_m
        np.testing.assert_allclose(depth_m, expected, rtol=1e-4)


@pytest.mark.slow
def test_a_caption_for_each_image_whatever_the_batches(reader, images, tmp_path):
    captions = images / "captions.json"
    captions.write_text(json.dumps({"a.png": "a red car", "b": "a street at night"}))
    single = predicted(reader, images, tmp_path / "1", "--captions", str(captions))
    together = predicted(reader, images, tmp_path / "2", "--captions", str(captions), "--batch-size", "2")
    expected = load(reader).predict(images / "b.png", caption="a street at night").depth_m
    np.testing.assert_allclose(single[1], expected, rtol=1e-4)
    for one, other in zip(single, together, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)


def test_a_captioner(reader, images, tmp_path, monkeypatch):
    """Its captions were kept in the user's home, whatever METAPROMPTS_CACHE said."""
    monkeypatch.setenv("METAPROMPTS_CACHE", str(tmp_path / "chosen"))
    captioner = str(write_captioner(tmp_path / "blip"))
    found = predicted(reader, images, tmp_path / "out", "--captioner", captioner)
    image = np.asarray(Image.open(images / "a.png"))
    (caption,) = Captioner(captioner, tmp_path / "cache").caption([image])
    np.testing.assert_allclose(found[0], load(reader).predict(image, caption=caption).depth_m, rtol=1e-4)
    assert len(list((tmp_path / "chosen/captions").rglob("*.json"))) == 2


def test_a_image_without_caption_does_not_stop_the_others(reader, images, tmp_path, capsys):
    captions = tmp_path / "captions.json"
    captions.write_text(json.dumps({"a.png": "a red car"}))
    words = ["predict", str(reader), str(images), "--captions", str(captions), "--out", str(tmp_path / "out")]
    assert main(words) == 1
    captured = capsys.readouterr()
    assert "1 of 2 images predicted" in captured.out
    engine, rate, line = captured.err.splitlines()
    assert engine.startswith("engine: ")
    assert "images/s" in rate
    assert str(captions) in line
    assert "b.png" in line


def test_heatmaps_of_tokens(reader, images, tmp_path):
    words = ["heatmaps", str(reader), str(images / "a.png"), "--prompts", "0,76", "--caption", "a red car"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/a_prompt076.png").is_file()


@pytest.mark.parametrize("source", ["empty", "somebody/gone"])
@pytest.mark.parametrize("command", slow_except(["predict", "heatmaps"], "predict"))
def test_a_captioner_that_cannot_be_loaded_is_reported_once(
    reader, images, tmp_path, capsys, monkeypatch, command, source
):
    """It was tried for every image, with the same message each time."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    captioner = str(tmp_path / source) if source == "empty" else source
    assert main([command, str(reader), str(images), "--captioner", captioner, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: captioner {captioner} cannot be loaded: ")
    assert not captured.out


@pytest.mark.parametrize(
    ("model", "words", "expected"),
    [
        ("reader", [], "needs a caption for each image: expected one of --caption TEXT, --captions FILE"),
        ("reader", ["--caption", "a", "--captioner", "b/c"], "captioner MODEL, got 2"),
        ("reader", ["--captions", "gone.json"], "cannot read gone.json"),
        ("reader", ["--captioner", "gone"], "no captioner at gone"),
        ("reader", ["--caption", "a", "--text-source", "gone"], "no text encoder at gone"),
        ("reader", ["--caption", "a", "--text-source", "other"], "prompts were made with text encoder"),
        ("depth", ["--text-source", "micro"], "reads no captions: omit --text-source"),
        ("depth", ["--caption", "a"], "this model has meta prompts and reads no captions: omit --caption"),
    ],
)
@pytest.mark.parametrize("command", ["predict", "heatmaps"])
def test_what_is_said_wrongly_is_reported(
    models, reader, images, tmp_path, capsys, monkeypatch, command, model, words, expected
):
    monkeypatch.chdir(tmp_path)
    write_text_encoder(tmp_path / "other", seed=1)
    folder = reader if model == "reader" else models / model
    assert main([command, str(folder), str(images), "--out", "out", *words]) in (1, 2)
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data.captioner", "b/c"], "data.captioner applies only if prompts.kind is caption, but it is meta"),
        (["--data.captions=c.json", "--prompts.kind=label"], "if prompts.kind is caption, but it is label"),
        (["--data.cache", "."], "data.cache applies only if prompts.kind is caption, but it is meta"),
        (["--prompts.text-source", "micro"], "prompts.text_source applies only if prompts.kind is label or caption"),
        (["--prompts.labels", "a,b"], "prompts.labels applies only if prompts.kind is label, but it is meta"),
    ],
)
def test_training_refuses_a_wish_that_its_kind_of_prompts_would_pass_over(capsys, words, said):
    assert main(["train", "micro_depth", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_recipe_itself_may_have_what_another_kind_of_prompts_needs(capsys):
    """It would be refused before its images are missed."""
    assert main(["train", "scenes_depth", "--data.captioner", "none"]) == 2
    assert "data.root is not set" in capsys.readouterr().err


def test_evaluation_knows_captions_by_the_model_not_by_its_recipe(reader, models, data, capsys):
    words = ["--recipe", "micro_depth", "--data.root", str(data), "--data.val=depth.txt", "--data.captions=gone.json"]
    for model, said in ((reader, "gone.json is not a file"), (models / "depth", "but it is meta")):
        assert main(["evaluate", str(model), *SMALL["depth"], *words]) == 2
        assert said in capsys.readouterr().err


def test_a_text_encoder_that_has_moved(reader, images, tmp_path):
    """Its folder in config.json is gone; the same one elsewhere will do."""
    from metaprompts.embedded import embedded_folder

    moved = tmp_path / "moved"
    moved.mkdir()
    for path in reader.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    config = moved / "config.json"
    config.write_text(config.read_text().replace('"text_source": "micro"', '"text_source": "/gone"'))
    words = ["predict", str(moved), str(images), "--caption", "a", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert main([*words, "--text-source", str(embedded_folder("micro"))]) == 0
