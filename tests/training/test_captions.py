"""Runs of a few steps that read a caption of each image."""

import json
import os
import shutil

import numpy as np
import pytest
import torch

from captioners import write_captioner
from metaprompts.cli import main
from metaprompts.errors import InputError
from metaprompts.models.loading import load
from metaprompts.modules.backbone.text_encoder import TextEncoder, load_text_encoder
from metaprompts.training.dataloaders import InfiniteDataLoader, training_split
from metaprompts.training.loop import train
from metaprompts.training.signals import TrainingStopped
from slow import slow_except
from training.images import made_recipe
from training.test_resuming import SignalAt
from training.test_training_from_shards import assert_same_samples, at, sharded

WORDS = ["a red car", "a green tree by a road", "a room", "a street at night", "a house", "two people", "a lamp"]
NAMES = [*(f"train{number}.png" for number in range(5)), "val0.png", "val1.png"]


@pytest.fixture(scope="module")
def captions(tmp_path_factory):
    path = tmp_path_factory.mktemp("captions") / "captions.json"
    path.write_text(json.dumps(dict(zip(NAMES, WORDS, strict=True))))
    return path


def recipe(task, images, captions, out, *overrides):
    return made_recipe(
        task,
        images,
        out,
        *("--prompts.kind", "caption", "--prompts.text_source", "micro", "--data.captions", str(captions)),
        *("--data.cache", str(captions.parent / "cache"), *overrides),
    )


@pytest.fixture(scope="module", params=slow_except(["depth", "segmentation"], "depth"))
def trained(request, images, captions, tmp_path_factory):
    """A recipe, and the folder of its training."""
    out = tmp_path_factory.mktemp("trained") / "run"
    made = recipe(request.param, images, captions, out, "--training.steps", "3", "--prompts.adapter", "true")
    train(made)
    return made, out


def test_a_batch_has_what_the_text_encoder_makes_of_its_captions(images, captions, tmp_path):
    made = recipe("depth", images, captions, tmp_path, "--data.num_workers", "1")
    batches = InfiniteDataLoader(training_split(made), made)
    context = next(iter(batches))["context"]
    names = [os.path.basename(path) for path in batches.files(0)]  # noqa: PTH119
    expected = load_text_encoder("micro").captions([WORDS[NAMES.index(name)] for name in names])
    torch.testing.assert_close(context, expected, rtol=1e-5, atol=1e-6)
    assert context.shape == (2, 77, 64)


@pytest.mark.slow
def test_it_says_what_reads_its_captions_and_needs_one(trained):
    made, out = trained
    model = load(out / "last", "cpu")
    prompts = model.config.prompts
    assert (prompts.kind, prompts.count, prompts.text_source) == ("caption", 77, "micro")
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    name = "depth_m" if made.task.name == "depth" else "confidence"
    first, again, other = (
        getattr(model.predict(image, caption=caption), name)
        for caption in ("a red car", model.encode_captions(["a red car"])[0], "a room")
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0
    with pytest.raises(InputError, match="needs a caption for each image, but its context is nothing"):
        model.predict(image)
    with pytest.raises(InputError, match="context is 1x2x64; expected 1x77x64"):
        model.predict(image, caption=torch.zeros(2, 64))


def test_evaluation_gives_the_numbers_of_training_without_the_text_encoder(trained, captions, tmp_path, monkeypatch):
    _, out = trained
    monkeypatch.setattr("metaprompts.modules.backbone.text_encoder.load_text_encoder", None)
    words = ["evaluate", str(out / "last"), "--training.device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "plain")]) == 0
    scores = json.loads((tmp_path / "plain/metrics.json").read_text())
    expected = json.loads((out / "metrics.json").read_text())["validations"][-1]
    name = "rmse" if "rmse" in scores else "mIoU"
    assert scores[name] == pytest.approx(expected[name], rel=1e-3)


def test_an_evaluation_that_goes_on_predicts_anew_what_has_another_caption(trained, captions, tmp_path):
    """Its images' files had not changed, so that the old numbers stayed."""
    _, out = trained
    changed = tmp_path / "captions.json"
    words = ["evaluate", str(out / "last"), "--training.device", "cpu", "--out", str(tmp_path / "scores")]
    words += ["--data.captions", str(changed), "--data.cache", str(tmp_path / "cache")]
    stamps = []
    for caption in ("a lamp", "a lamp", "a green tree by a road"):
        changed.write_text(json.dumps(json.loads(captions.read_text()) | {"val1.png": caption}))
        assert main(words) == 0
        lines = (tmp_path / "scores/per_image.jsonl").read_text().splitlines()
        stamps.append([json.loads(line)["files"] for line in lines])
    assert stamps[0] == stamps[1]
    assert [old == new for old, new in zip(stamps[1], stamps[2], strict=True)] == [True, False]


@pytest.mark.slow
def test_windows_mirror_images_and_scales_are_seen_with_their_captions(trained, tmp_path):
    made, out = trained
    ways = ["--test.flip", "true"]
    if made.task.name == "segmentation":
        ways += ["--test.window", "48", "--test.stride", "16", "--test.window_batch", "4", "--test.scales", "1,1.5"]
    grouped = ["--training.val_batch_size", "2", "--training.device", "cpu"]
    for number, more in enumerate((grouped, grouped[2:])):
        assert main(["evaluate", str(out / "last"), *ways, *more, "--out", str(tmp_path / str(number))]) == 0
    first, second = (json.loads((tmp_path / number / "metrics.json").read_text()) for number in "01")
    name = "rmse" if made.task.name == "depth" else "mIoU"
    assert first[name] == pytest.approx(second[name], rel=1e-3)


def test_a_data_set_s_heatmaps(trained, tmp_path):
    _, out = trained
    assert main(["heatmaps", str(out / "last"), "--data.val_labels", "none", "--out", str(tmp_path)]) == 0
    assert len(json.loads((tmp_path / "responses.json").read_text())["prompts"]) == 77


@pytest.mark.parametrize("workers", slow_except(["0", "1"], "0"))
def test_stopped_it_goes_on_as_if_it_had_not_been(trained, images, captions, tmp_path, workers):
    made, out = trained
    words = ("--training.steps", "3", "--prompts.adapter", "true", "--data.num_workers", workers)
    again = recipe(made.task.name, images, captions, tmp_path / "run", *words)
    with pytest.raises(TrainingStopped):
        train(again, [SignalAt(2)])
    train(again, resume="auto")
    assert_same_samples(tmp_path / "run", out)


@pytest.mark.slow
def test_shards_have_the_same_captions(trained, tmp_path):
    made, out = trained
    from_shards = at(sharded(made, tmp_path), tmp_path / "run")
    train(from_shards)
    assert_same_samples(tmp_path / "run", out)


WAYS = [
    ("caption", ("--training.trainable", "lora", "--backbone.gradient_checkpointing", "true")),
    ("caption", ("--training.micro_batch_size", "1", "--training.loss_group_size", "1")),
    ("caption", ("--backbone.forget_unet", "true", "--training.ema_decay", "0.5")),
    ("label", ("--training.trainable", "prompts", "--prompts.adapter", "true", "--prompts.per_step", "true")),
    ("label", ("--backbone.gradient_checkpointing", "true", "--training.precision", "bf16")),
]


@pytest.mark.parametrize(("kind", "words"), slow_except(WAYS, *WAYS[1:4:2]))
@pytest.mark.slow
def test_it_goes_together_with_other_ways_to_train(images, captions, tmp_path, kind, words):
    made = recipe("depth", images, captions, tmp_path, "--prompts.labels", "near,far", *words, "--prompts.kind", kind)
    train(made)
    assert load(tmp_path / "last", "cpu").config.prompts.kind == kind


def test_what_is_encoded_is_not_encoded_again(images, captions, tmp_path, monkeypatch):
    made = recipe("depth", images, captions, tmp_path, "--data.cache", str(tmp_path / "cache"))
    first = training_split(made).samples[3].context
    (path,) = [file for file in tmp_path.rglob("*.npy") if (np.load(file) == first).all()]
    whole = path.read_bytes()
    encode, asked = TextEncoder.captions, []

    def counted(self, texts):
        asked.extend(texts)
        return encode(self, texts)

    monkeypatch.setattr(TextEncoder, "captions", counted)
    training_split(made)
    assert asked == []
    path.write_bytes(whole[:-5])
    np.testing.assert_allclose(training_split(made).samples[3].context, first, rtol=1e-5, atol=1e-6)
    assert asked == [WORDS[3]]
    assert len(path.read_bytes()) == len(whole)


def without(captions, folder, name):
    path = folder / "fewer.json"
    found = json.loads(captions.read_text())
    del found[name]
    path.write_text(json.dumps(found))
    return path


def test_a_missing_caption_is_named_before_the_training_begins(images, captions, tmp_path):
    fewer = without(captions, tmp_path, "train2.png")
    with pytest.raises(InputError) as caught:
        train(recipe("depth", images, fewer, tmp_path / "run"))
    assert str(fewer) in str(caught.value)
    assert str(images / "train2.png") in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_image_without_caption_is_skipped_on_request(images, captions, tmp_path):
    fewer = without(captions, tmp_path, "train2.png")
    samples = training_split(recipe("depth", images, fewer, tmp_path, "--data.on_error", "skip")).samples
    assert [os.path.basename(samples[number].path) for number in (1, 2)] == ["train1.png", "train3.png"]  # noqa: PTH119
    assert len(samples.bad) == 1


@pytest.mark.slow
def test_a_captioner_in_the_place_of_a_file(images, captions, tmp_path):
    """With images that cannot be read, to be skipped."""
    root = shutil.copytree(images, tmp_path / "images")
    (root / "train1.png").write_text("no image")
    captioner = write_captioner(tmp_path / "blip")
    words = ["--data.captions", "none", "--data.captioner", str(captioner), "--data.cache", str(tmp_path / "cache")]
    train(recipe("depth", root, captions, tmp_path / "run", *words, "--data.on_error", "skip"))
    assert len(list((tmp_path / "cache/captions").rglob("*.json"))) == 6
    with pytest.raises(InputError, match=r"train1\.png is not an image"):
        training_split(recipe("depth", root, captions, tmp_path / "run", *words))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--data.captions", "none"], "prompts.kind is caption, but there are no captions: set data.captions FILE or"),
        (["--data.captions", "gone.json"], "gone.json is not a file"),
        (["--data.captioner", "a/b"], "data.captioner a/b: set one of them to none"),
        (["--data.captions", "none", "--data.captioner", "gone"], "no captioner at gone"),
        (
            ["--backbone.source", "random:micro", "--prompts.text_source", "none"],
            "random weights and no text encoder: set prompts.text_source",
        ),
    ],
)
def test_what_is_said_wrongly_is_one_line(images, captions, tmp_path, words, expected):
    words = [*words, "--data.cache", str(tmp_path)]
    with pytest.raises(InputError) as caught:
        training_split(recipe("depth", images, captions, tmp_path, *words))
    assert expected in str(caught.value)
