"""The task normals from scenes to an export, and what is its own."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

import metaprompts
from metaprompts.analysis.prompts import prompt_responses
from metaprompts.cli import main
from metaprompts.data.datasets.transformed import Transformed
from metaprompts.data.io.normal_files import read_normals, write_normals
from metaprompts.data.sample import DenseTarget, Sample
from metaprompts.data.transforms.geometric import RandomCrop, RandomFlip, flip, pad
from metaprompts.demo.galleries import task_gallery
from metaprompts.demo.prompts import prompts_gallery
from metaprompts.demo.scoring import Subject, on_scenes, scores_of
from metaprompts.errors import InputError
from metaprompts.recipes.loader import read_recipe
from metaprompts.synthetic import generate_scene
from metaprompts.synthetic.layouts import write_scenes
from metaprompts.tasks import Normals
from metaprompts.tasks.normals import NormalsProtocol
from metaprompts.training.dataloaders import samples_of, training_split, validation_batches, validation_split
from small import tiny_backbone

SMALL = ["--data.image_size", "64,64", "--augment.crop_size", "64,64", "--task.filters", "4", "--task.width", "8"]
QUICK = ["--prompts.count", "4", "--training.batch_size", "2", "--training.loss_group_size", "2"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("normals") / "scenes"
    write_scenes("plain", 6, root, val_count=2, height=64, width=64)
    return root


@pytest.fixture(scope="module")
def model(scenes, tmp_path_factory):
    """A model folder, of two steps of training."""
    out = tmp_path_factory.mktemp("run")
    words = [*SMALL, *QUICK, "--data.root", str(scenes), "--backbone.source", tiny_backbone()]
    words += ["--training.steps", "2", "--training.validate_every", "2", "--training.output_dir", str(out)]
    assert main(["train", "scenes_normals", *words, "--training.report_to", "none"]) == 0
    return out / "best"


def test_scenes_are_read_as_they_were_drawn(scenes):
    samples = samples_of(read_recipe("scenes_normals", ["--data.root", str(scenes)]), "val")
    scene = generate_scene(2 * 10**6, 64, 64)
    assert np.array_equal(samples[0].image, scene.image)
    np.testing.assert_allclose(samples[0].dense["normals"].values, scene.normals, atol=1e-4)


@pytest.mark.slow
def test_a_trained_model_is_scored_and_drawn(model, scenes, tmp_path, capsys):
    words = ["evaluate", str(model), "--data.root", str(scenes), "--out", str(tmp_path), "--test.flip"]
    assert main(words) == 0
    scores = json.loads((tmp_path / "metrics.json").read_text())
    assert 0 < scores["mean_deg"] < 180
    assert scores["images"] == 2
    assert len((tmp_path / "per_image.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "worst.jpg").is_file()
    assert "mean_deg" in capsys.readouterr().out


def test_predictions_are_files_that_training_reads(model, scenes, tmp_path):
    image = scenes / "images/000001.png"
    assert main(["predict", str(model), str(image), "--out", str(tmp_path), "--raw"]) == 0
    names = {path.name.removeprefix("000001_") for path in tmp_path.rglob("000001_*")}
    assert names >= {"normals.png", "normals_color.png", "normals.npy"}
    raw = np.load(tmp_path / "000001_normals.npy")
    np.testing.assert_allclose(read_normals(tmp_path / "000001_normals.png"), raw, atol=1e-4)
    picture = np.asarray(Image.open(tmp_path / "000001_normals_color.png"))
    assert np.array_equal(picture[:64, :64], np.rint((raw + 1) * 127.5).astype(np.uint8))
    assert picture.shape[0] > 64
    np.testing.assert_allclose(metaprompts.load(model).predict(image).normals, raw, atol=1e-5)


def test_windows_are_averaged_to_unit_vectors(model, scenes, tmp_path):
    words = ["predict", str(model), str(scenes / "images/000001.png"), "--out", str(tmp_path), "--raw"]
    assert main([*words, "--window", "64,64"]) == 0
    raw = np.load(tmp_path / "000001_normals.npy")
    np.testing.assert_allclose(np.linalg.norm(raw, axis=2), 1, atol=1e-5)


def test_prompts_prefer_directions(model, scenes, tmp_path, capsys):
    assert main(["heatmaps", str(model), "--data.root", str(scenes), "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "responses.json").read_text())["kind"] == "direction"
    assert "preferred direction" in capsys.readouterr().out


def test_the_data_is_checked_and_drawn(scenes, tmp_path, capsys):
    words = ["data", "check", "scenes_normals", "--data.root", str(scenes), "--out", str(tmp_path / "sheet.png")]
    assert main(words) == 0
    assert (tmp_path / "sheet.png").is_file()
    assert re.search(r"train +4 images; 4 read, none bad", capsys.readouterr().out)


def test_shards_hold_the_same_samples(scenes, tmp_path):
    assert main(["data", "shard", "scenes_normals", "--data.root", str(scenes), "--out", str(tmp_path / "shards")]) == 0
    folder, shards = (
        samples_of(read_recipe("scenes_normals", words), "train")
        for words in (["--data.root", str(scenes)], ["--data.shards", str(tmp_path / "shards")])
    )
    for one, other in zip((folder[0], folder[3]), (shards[0], shards[3]), strict=True):
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.dense["normals"].values, other.dense["normals"].values)
        assert other.dense["normals"].mirrored == (-1, 1, 1)


@pytest.mark.slow
def test_memory_is_estimated(capsys):
    assert main(["memory", "scenes_normals", *SMALL, *QUICK, "--backbone.source", tiny_backbone()]) == 0
    assert "peak memory of a training step" in capsys.readouterr().out


def test_the_demo_scores_and_draws_it(model, scenes):
    recipe = on_scenes(str(model / "recipe.json"), scenes)
    subject = Subject(metaprompts.load(model), recipe, validation_split(recipe))
    scores = {score.metric: score for score in scores_of(subject)}
    assert scores.keys() == {"mean_deg", "within_11.25"}
    assert scores["mean_deg"].better == "lower"
    # The mean of the training scenes is a real floor: a model of two steps is worse.
    assert 10 < scores["mean_deg"].baseline < scores["mean_deg"].model
    samples = list(subject.split.samples)
    gallery = task_gallery(subject.model, samples)
    assert gallery.title.startswith("Surface normals")
    assert gallery.legend is not None
    responses = prompt_responses(subject.model, validation_batches(subject.split, recipe))
    prompts = prompts_gallery(subject.model, responses, samples)
    assert all(re.match(r"prompt \d prefers (left|right|up|down|the camera) ", name) for name in prompts.names)


def random_sample(height=6, width=8):
    generator = np.random.default_rng(0)
    values = generator.normal(size=(height, width, 3)).astype(np.float32)
    target = DenseTarget(values=values, mirrored=(-1.0, 1.0, 1.0))
    image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Sample(image=image, path="", dense={"normals": target})


def test_a_mirrored_surface_faces_the_other_side():
    sample = random_sample()
    mirrored = flip(sample)
    assert np.array_equal(mirrored.image, sample.image[:, ::-1])
    assert np.array_equal(mirrored.dense["normals"].values, sample.dense["normals"].values[:, ::-1] * (-1, 1, 1))
    assert np.array_equal(flip(mirrored).dense["normals"].values, sample.dense["normals"].values)


def test_padding_has_no_surface():
    padded = pad(random_sample(), 8, 8).dense["normals"].values
    assert padded.shape == (8, 8, 3)
    assert not padded[6:].any()


def test_crops_cut_image_and_normals_alike():
    sample = random_sample(16, 16)
    marked = Sample(image=sample.image, path="", dense={"normals": DenseTarget(values=sample.image.astype(np.float32))})
    batch = Transformed([marked], [RandomCrop(5, 7), RandomFlip(0.5)], seed=0)[0]
    assert torch.equal(batch["normals"], (batch["image"] * 255).round())


class Still:
    """Predicts the same vectors for every image."""

    task = Normals()

    def __call__(self, images):
        return torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(len(images), 3, 4, 4)


def test_what_the_mirror_contradicts_is_averaged_away():
    batch = {"image": torch.rand(1, 3, 4, 4)}
    assert torch.equal(NormalsProtocol().predict(Still(), batch), Still()(batch["image"]))
    assert not NormalsProtocol(flip=True).predict(Still(), batch).any()


def test_the_sky_is_not_trained_on():
    task, raw = Normals(), torch.nn.functional.normalize(torch.rand(1, 3, 4, 4), dim=1)
    target = raw.clone()
    target[..., :2, :] = 0
    assert sum(task.losses(raw, None, {"normals": target}).values()) == pytest.approx(0, abs=1e-6)
    raw.requires_grad_()
    sum(task.losses(raw, None, {"normals": torch.zeros_like(target)}).values()).backward()
    assert not raw.grad.any()


def test_normals_that_point_away_are_an_error(tmp_path):
    """Files of OpenCV's axes would be learned upside down and inside out."""
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "a.png")
    write_normals(tmp_path / "n.png", np.tile(np.float32([0, 0.6, -0.8]), (64, 64, 1)))
    (tmp_path / "list.txt").write_text("a.png n.png\n")
    words = ["--data.root", str(tmp_path), "--data.train", "list.txt", "--data.val", "none"]
    recipe = read_recipe("micro_normals", words)
    with pytest.raises(
        InputError, match=r"100% of the normals of the training split point away .*the other value of --data.axes"
    ):
        recipe.task.check_samples(samples_of(recipe, "train"), "training split")
    recipe = read_recipe("micro_normals", [*words, "--data.axes", "opencv"])
    recipe.task.check_samples(samples_of(recipe, "train"), "training split")


def test_normals_are_computed_from_depth(tmp_path):
    scene = generate_scene(5, 64, 96, "room")
    Image.fromarray(scene.image).save(tmp_path / "a.png")
    Image.fromarray(np.rint(scene.depth_m * 1000).astype(np.uint16)).save(tmp_path / "d.png")
    (tmp_path / "list.txt").write_text("a.png d.png\n")
    words = ["--data.root", str(tmp_path), "--data.train", "list.txt", "--data.val", "none", "--data.source", "depth"]
    with pytest.raises(InputError, match=r"data.source is depth, data.focal_px none; expected a focal length"):
        read_recipe("micro_normals", words)
    recipe = read_recipe("micro_normals", [*words, "--data.focal_px", str(scene.intrinsics[0, 0])])
    found = training_split(recipe).samples[0].dense["normals"].values
    known = found.any(axis=2)
    assert np.median((found * scene.normals).sum(axis=2)[known]) > 0.995
