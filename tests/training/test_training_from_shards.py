"""Training from shards ends, bit for bit, as training from folders, stopped and gone on or not."""

import json
from dataclasses import replace

import pytest

from metaprompts.cli import main
from metaprompts.recipes.loader import read_recipe
from metaprompts.synthetic.layouts import write_scenes
from metaprompts.training.loop import train
from metaprompts.training.signals import TrainingStopped
from small import SMALL
from training.images import made_recipe
from training.test_resuming import SignalAt

# An epoch has two.
STEPS = ("--training.steps", "3")


def sharded(recipe, folder):
    """The same recipe, which reads shards alone."""
    (folder / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    assert main(["data", "shard", str(folder / "recipe.json"), "--out", str(folder / "shards")]) == 0
    return replace(recipe, data=replace(recipe.data, root=None, shards=folder / "shards"))


def at(recipe, out, **data):
    return replace(recipe, data=replace(recipe.data, **data), training=replace(recipe.training, output_dir=out))


def assert_same_samples(out, expected):
    for name in ("last/model.safetensors", "best/model.safetensors", "metrics.json"):
        assert (out / name).read_bytes() == (expected / name).read_bytes()


@pytest.fixture(scope="module", params=["depth", "segmentation"])
def trained(request, images, tmp_path_factory):
    """A recipe of folders, the folder of its training, and the recipe of its shards."""
    folder = tmp_path_factory.mktemp("shards")
    recipe = made_recipe(request.param, images, folder / "run", *STEPS)
    train(recipe)
    return recipe, folder / "run", sharded(recipe, folder)


@pytest.mark.slow
def test_a_stopped_training_goes_on_as_from_folders_without_a_stop(trained, tmp_path):
    """With processes that read, in the second epoch."""
    _, expected, recipe = trained
    made = at(recipe, tmp_path / "run", num_workers=2)
    with pytest.raises(TrainingStopped, match="stopped at step 2 of 3"):
        train(made, [SignalAt(2)], resume="auto")
    train(made, resume="auto")
    assert_same_samples(tmp_path / "run", expected)


@pytest.mark.parametrize("trained", ["depth"], indirect=True)
@pytest.mark.slow
def test_a_training_from_folders_goes_on_from_shards(trained, tmp_path):
    recipe, expected, from_shards = trained
    with pytest.raises(TrainingStopped):
        train(at(recipe, tmp_path / "run"), [SignalAt(1)])
    train(at(from_shards, tmp_path / "run"), resume="auto")
    assert_same_samples(tmp_path / "run", expected)


@pytest.mark.slow
def test_people_are_trained_and_validated_without_their_folder(tmp_path):
    """OKS wants the annotation file, which comes with the shards."""
    write_scenes("coco", 8, tmp_path / "coco", height=64, width=96, val_count=4)
    settings = ("--data.root", str(tmp_path / "coco"), "--data.val_boxes", "none", "--training.batch_size", "2")
    few = ("--prompts.count", "4", "--refinement.steps", "2", "--training.device", "cpu", "--data.num_workers", "0")
    recipe = read_recipe("micro_coco_pose", [*SMALL["pose"], *settings, *few, "--training.steps", "2"])
    train(at(recipe, tmp_path / "expected"))
    made = sharded(recipe, tmp_path)
    (tmp_path / "coco").rename(tmp_path / "gone")
    train(at(made, tmp_path / "run"))
    assert_same_samples(tmp_path / "run", tmp_path / "expected")
    assert "AP" in json.loads((tmp_path / "run/metrics.json").read_text())["best"]


def test_a_folder_takes_the_place_of_the_shards_in_a_recipe(tmp_path):
    """That of a trained model names those it was trained from."""
    path = tmp_path / "recipe.toml"
    path.write_text('extends = "micro_depth"\n[data]\nshards = "x"')
    assert str(read_recipe(str(path)).data.shards) == "x"
    assert read_recipe(str(path), ["--data.root", "y"]).data.shards is None
    both = read_recipe(str(path), ["--data.shards", "z", "--data.root=y"]).data
    assert (str(both.root), str(both.shards)) == ("y", "z")
