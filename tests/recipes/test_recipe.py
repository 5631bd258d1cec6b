import json
from pathlib import Path

import pytest

from metaprompts.errors import InputError
from metaprompts.recipes.loader import read_recipe
from metaprompts.recipes.recipe import Recipe, Training
from metaprompts.recipes.registry import recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_reads_and_writes(name, tmp_path):
    recipe = read_recipe(name)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe.to_dict()))
    assert read_recipe(str(path)) == recipe


def test_overrides_change_what_they_name_and_nothing_else():
    plain, changed = (
        read_recipe("micro_depth"),
        read_recipe(
            "micro_depth",
            [
                "--training.batch_size",
                "3",
                "--optimizer.lr=2e-4",
                "--refinement.modulated-time",
                "no",
                "--data.root",
                "x",
            ],
        ),
    )
    assert (changed.training.batch_size, changed.optimizer.lr, changed.refinement.modulated_time) == (3, 2e-4, False)
    assert changed.data.root == Path("x")
    back = changed.to_dict()
    back["training"]["batch_size"] = plain.training.batch_size
    back["optimizer"]["lr"] = plain.optimizer.lr
    back["refinement"]["modulated_time"] = True
    back["data"]["root"] = None
    assert Recipe.from_dict(back) == plain


def test_negative_and_empty_values_pass_through_an_equals_sign():
    assert read_recipe("micro_segmentation", ["--data.ignored=", "--training.num_threads=none"]).data.ignored == ()


@pytest.mark.parametrize(
    ("name", "overrides", "repeat"),
    [
        ("scenes_depth", [], True),
        ("scenes_segmentation", [], True),
        ("scenes_segmentation", ["--augment.scale_range", "0.5,1"], False),
        ("scenes_depth", ["--augment.color", "true"], False),
        ("scenes_depth", ["--augment.crop_size", "64,64"], False),
        ("scenes_depth", ["--augment.cutdepth", "scaled"], False),
        ("scenes_pose", [], False),
        ("nyu", [], False),
    ],
)
def test_which_recipes_show_the_same_images_again(name, overrides, repeat):
    assert read_recipe(name, overrides).images_repeat == repeat


def test_a_length_on_the_command_line_takes_the_place_of_the_recipes():
    by_epochs, by_steps = (
        read_recipe("micro_depth", ["--training.epochs", "3"]),
        read_recipe("nyu", ["--training.steps=9"]),
    )
    assert (by_epochs.training.epochs, by_epochs.training.steps) == (3, None)
    assert (by_steps.training.epochs, by_steps.training.steps) == (None, 9)
    assert read_recipe("nyu", ["--training.steps", "none"]).training.epochs == 25


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--training.batchsize", "3"], "unknown key training.batchsize: did you mean training.batch_size?"),
        (["--trainnig.steps", "3"], "unknown key trainnig: did you mean training?"),
        (["--training.steps"], "--training.steps has no value"),
        (["--training.steps", "--training.seed", "1"], "--training.steps has no value"),
        (["steps", "3"], "unexpected 'steps'"),
        (["--steps", "3"], "unknown key --steps: did you mean --training.steps?"),
        (["--batch-size", "3"], "did you mean --training.batch_size?"),
        (["--trainingsteps=3"], "did you mean --training.steps?"),
        (["--training.steps", "many"], "training.steps is 'many'; expected a whole number"),
        (["--training.epochs", "3", "--training.steps", "9"], "expected exactly one"),
        (["--task.name", "depht"], "task.name is 'depht'; expected"),
        (["--optimizer.lr", "nan"], "optimizer.lr is 'nan'; expected a number"),
        (["--schedule.power", "inf"], "schedule.power is 'inf'; expected a number"),
        (["--schedule.power", "-1"], "schedule.power is -1.0; expected 0 to 100"),
        (["--training.seed", "100000000000000"], "training.seed is 100000000000000; expected 0 to 4294967295"),
        (["--training.num_threads", "100000000000"], "training.num_threads is 100000000000; expected 1 to 4096"),
        (["--training.lora_rank", "0"], "training.lora_rank is 0; expected 1 to 4096"),
        (["--task.max_depth_m", "0"], "max_depth_m 0.0"),
    ],
)
def test_a_wrong_override_is_reported(overrides, message):
    with pytest.raises(InputError) as caught:
        read_recipe("micro_depth", overrides)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "task = 'depth'", "task is 'depth'; expected a section of keys"),
        (
            "a.toml",
            "backbone = 5\n[task]\nname = 'depth'\nmax_depth_m = 1",
            "backbone is 5; expected a section of keys",
        ),
        ("a.toml", "x", "not valid TOML"),
        ("a.toml", "", "task.name is None"),
        ("a.json", "[1]", "expected a JSON object"),
        ("a.json", "{", "not valid JSON"),
    ],
)
def test_a_broken_file_is_reported(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_recipe(str(tmp_path / name))


def test_a_missing_recipe_names_those_there_are():
    with pytest.raises(InputError, match=r"no recipe 'nyuu': give a \.toml file or one of .*micro_depth"):
        read_recipe("nyuu")


def test_segmentation_of_one_image_at_a_time_is_refused():
    """UPerNet pools each map to one pixel, whose variance over one image batch norm cannot take."""
    with pytest.raises(InputError, match=r"training\.batch_size is 1; segmentation needs at least 2"):
        read_recipe("micro_segmentation", ["--training.batch_size", "1"])
    assert read_recipe("micro_depth", ["--training.batch_size", "1"]).training.batch_size == 1


def test_steps_or_epochs():
    assert Training(batch_size=4, steps=7).total_steps(100) == 7
    assert Training(batch_size=4, epochs=3).total_steps(10) == 6
    assert Training(batch_size=4, epochs=3).total_steps(2) == 3
    for wrong in ({}, {"steps": 1, "epochs": 1}, {"steps": 0}, {"epochs": 1, "seed": -1}):
        with pytest.raises(InputError):
            Training(batch_size=4, **wrong)


def test_a_recipe_says_only_what_differs_from_the_one_it_extends(tmp_path):
    (tmp_path / "mine.toml").write_text('extends = "micro_depth"\n[optimizer]\nlr = 2e-3\n')
    (tmp_path / "longer.toml").write_text('extends = "mine.toml"\n[training]\nsteps = "none"\nepochs = 7\n')
    base, read = read_recipe("micro_depth"), read_recipe(str(tmp_path / "longer.toml"))
    assert (read.optimizer.lr, read.training.epochs, read.training.steps) == (2e-3, 7, None)
    assert read.optimizer.weight_decay == base.optimizer.weight_decay
    assert (read.task, read.data, read.augment) == (base.task, base.data, base.augment)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extends = "a.toml"', "extends itself"),
        ("extends = 3", "extends is 3; expected"),
        ('extends = "missing"', "no recipe"),
    ],
)
def test_a_recipe_that_extends_nothing_is_reported(text, message, tmp_path):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        read_recipe(str(tmp_path / "a.toml"))
