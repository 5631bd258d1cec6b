"""Studies: what they train, and which runs are the same."""

import dataclasses
from pathlib import Path

import pytest

from ablation.made import study
from metaprompts.ablation.study import Cell, GeneratedScenes, Run, Variant, changed_values, read_study
from metaprompts.errors import InputError
from metaprompts.recipes.loader import read_recipe
from metaprompts.utils.schema import from_dict

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "studies").glob("*.toml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_shipped_studies_name_recipes_and_keys_that_exist(path, tmp_path):
    read = read_study(path)
    left_out = sum(len(cell.without) for cell in read.cells)
    assert len(read.runs) == (len(read.cells) * len(read.variants) - left_out) * len(read.seeds)
    for run in read.runs:
        recipe, *words = run.words(tmp_path, tmp_path / "out")
        made = read_recipe(recipe, words)
        assert made.training.seed == run.seed
        assert made.training.output_dir == tmp_path / "out"


def test_there_are_the_papers_studies_and_ours():
    assert {path.stem for path in STUDIES} == {
        *("interfaces", "prompts", "steps", "rearrangement", "time"),
        *("prior", "trainable"),
    }


@pytest.mark.slow
def test_shipped_studies_share_the_full_method_and_its_scenes():
    studies = [read_study(path) for path in STUDIES]
    assert len({study.scenes for study in studies}) == 1
    full = {study.name: {run.key for run in study.runs if run.variant.name in ("full", "prior")} for study in studies}
    for name in ("prompts", "time", "trainable", "interfaces"):
        assert full[name] < full["rearrangement"] == full["steps"]
    assert {len(full[name]) for name in ("time", "interfaces")} == {12}, "camvid and redkitchen, too"
    assert len(full["prior"] & full["steps"]) == 12


@pytest.mark.slow
def test_shipped_cells_have_equal_budgets():
    assert {cell.settings["training.steps"] for path in STUDIES for cell in read_study(path).cells} == {250}


def one_run(seed=0, data="here", **settings):
    cell = Cell(name="c", recipe="micro_depth", data=data, metric="d1", settings=settings)
    return Run(cell=cell, variant=Variant(name="v"), seed=seed)


def test_a_training_is_known_by_what_it_comes_to_not_by_its_words():
    plain = one_run()
    assert one_run(**{"prompts.count": 32}).key == plain.key, "32 is what the recipe says, too"
    assert dataclasses.replace(plain, variant=Variant(name="other")).key == plain.key
    others = [one_run(seed=1), one_run(data="there"), one_run(**{"prompts.count": 8})]
    assert len({plain.key, *(other.key for other in others)}) == 4


def test_settings_tell_what_differs_from_the_defaults_without_folders():
    settings = one_run(seed=3).settings
    assert settings["task.name"] == "depth"
    assert settings["training.seed"] == 3
    assert settings["backbone.source"] == "micro"
    assert not {"data.root", "training.output_dir", "backbone.forget_unet"} & set(settings)


def test_a_key_that_a_later_version_adds_changes_nothing():
    @dataclasses.dataclass(frozen=True)
    class Now:
        count: int = 1
        size: tuple[int, int] = (2, 3)

    @dataclasses.dataclass(frozen=True)
    class Later(Now):
        kind: str = "meta"
        more: tuple[int, ...] = dataclasses.field(default_factory=tuple)

    assert changed_values(Now(count=2)) == changed_values(Later(count=2)) == {"count": 2}


def test_a_variant_overrides_its_cell_and_the_seed_is_the_runs_own():
    one = Cell(
        name="c", recipe="micro_depth", data="here", metric="d1", settings={"training.steps": 5, "prompts.count": 9}
    )
    made = study(
        cells=(one,), variants=(Variant(name="v", settings={"training.steps": 7, "data.image_size": [64, 128]}),)
    )
    words = made.runs[1].words(Path("images"), Path("out"))
    assert words[0] == "micro_depth"
    assert set(words[1:]) == {
        "--training.steps=7",
        "--prompts.count=9",
        "--data.image_size=64,128",
        "--training.seed=1",
        "--data.root=images",
        "--training.output_dir=out",
    }


def test_data_can_be_made_with_the_run_of_the_same_seed():
    read = read_study(ROOT / "studies/scripted/pseudo_labels.toml")
    runs = [run for run in read.runs if run.path.startswith("depth/pseudo/")]
    shards = [run.recipe(Path("images"), Path("out")).data.shards for run in runs]
    assert shards == [Path(f"runs/ablations/data/pseudo/depth-{seed}") for seed in (0, 1, 2)]


def test_first_seeds_are_trained_first():
    assert [run.seed for run in study().runs] == [0] * 4 + [1] * 4 + [2] * 4


def test_a_study_is_named_after_its_file(tmp_path):
    (tmp_path / "mine.toml").write_text(
        TINY + "variants = [{name='a'}]\n[scenes]\ncount = 9\nval_count = 3\nparts = [2]"
    )
    read = read_study(tmp_path / "mine.toml")
    assert read.name == "mine"
    assert read.scenes == from_dict(GeneratedScenes, {"count": 9, "val_count": 3, "parts": [2]})


def test_a_variant_that_a_cell_cannot_have_is_not_trained_there():
    """Captions of images that nobody captioned could only be left out for all cells."""
    small, large = study().cells
    made = study(cells=(dataclasses.replace(small, without=("theirs",)), large), seeds=(0,))
    assert [run.path for run in made.runs] == ["small/ours/0", "large/ours/0", "large/theirs/0"]
    assert [variant.name for variant in made.variants_of(made.cells[0])] == ["ours"]


def test_what_a_variant_needs_in_one_cell_is_put_over_all_else():
    cell = Cell(
        name="c",
        recipe="micro_depth",
        data="here",
        metric="d1",
        settings={"training.steps": 5, "prompts.count": 9},
        variant_settings={"few": {"prompts.count": 4}},
    )
    few = Variant(name="few", settings={"prompts.count": 8})
    made = study(cells=(cell,), variants=(Variant(name="all"), few), seeds=(0,))
    assert [run.settings["prompts.count"] for run in made.runs] == [9, 4]


def test_a_cell_without_such_changes_has_the_keys_that_it_had():
    """Of results/rearrangement/camvid--full--0.json: what is stored must not seem to be of another run."""
    cell = Cell(
        name="camvid",
        recipe="micro_segmentation",
        data="camvid",
        metric="mIoU",
        settings={
            "refinement.steps": 3,
            "schedule.warmup_steps": 50,
            "data.ignored": [11],
            "training.steps": 250,
            "training.validate_every": 250,
        },
    )
    assert Run(cell=cell, variant=Variant(name="full"), seed=0).key == "324d4d7e48c7"


LISTS = {
    "prompts.labels": [
        ["wall, white", "floor"],
        ["none"],
        [" off ", "[a]"],
        ['the "red" one', "back\\slash", "naïve"],
        ["12", "3"],
        ["one"],
    ],
    "data.image_size": [[64, 128]],
    "task.skeleton": [[[0, 1], [1, 2]]],
    "training.report_to": [[], ["wandb"], ["wandb", "trackio"]],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in LISTS.items() for value in values])
def test_lists_arrive_as_they_were_written(key, value):
    """ "wall, white" became two labels, and a single label "none" no labels at all."""
    recipe = "micro_pose" if key.startswith("task") else "micro_depth"
    settings = {"prompts.kind": "label"} if key.startswith("prompts") else {}
    metric = "AP" if recipe == "micro_pose" else "d1"
    cell = Cell(name="c", recipe=recipe, data="here", metric=metric, settings=settings)
    run = Run(cell=cell, variant=Variant(name="v", settings={key: value}), seed=0)
    section, name = key.split(".")
    assert run.recipe(Path("in"), Path("out")).to_dict()[section][name] == value


TINY = "title = 't'\nseeds = [0]\ncells = [{name='c', recipe='micro_depth', data='d', metric='d1'}]\n"


CELL = (
    "title = 't'\nseeds = [0]\nvariants = [{{name='a'}}, {{name='b'}}]\n"
    "cells = [{{name='c', recipe='micro_depth', data='d', metric='d1', {}}}]"
)
BAD_NAMES = ("a/b", "", ".a", "a--b", "a-", "-a", "a|b", "a\\nb", "a b")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title = ", "not valid TOML"),
        ("title = 't'\nseeds = [0]\ncells = []\nvariants = []", "no cells"),
        ("title = 't'\nseeds = [0]\nvariant = []", "did you mean study.variants"),
        (TINY + "variants = [{name='a'}, {name='a'}]", "two variants are the same: a, a"),
        *((TINY + f'variants = [{{name="{name}"}}]', "file name") for name in BAD_NAMES),
        (TINY + "name = '../../x'\nvariants = [{name='a'}]", "name '../../x' cannot be part"),
        (TINY + "name = 'runs'\nvariants = [{name='a'}]", "study name 'runs' is reserved for a folder"),
        (TINY.replace("'t'", "'a|b'") + "variants = [{name='a'}]", "title 'a|b' would break a table"),
        (TINY.replace("'t'", '"a\\nb"') + "variants = [{name='a'}]", "would break a table"),
        (TINY + "paper = 'a|b'\nvariants = [{name='a'}]", r"paper 'a\|b' would break a table"),
        (TINY + "variants = [{name='a', settings={'data.captioner'='b/c'}}]", "data.captioner applies only if"),
        (TINY.replace("'d1'", "'mIoU'") + "variants = [{name='a'}]", "cell c compares 'mIoU', which depth does not"),
        (TINY.replace("_depth", "_segmentation").replace("d1", "iou_per_class") + "variants = [{name='a'}]", "mAcc$"),
        (
            TINY.replace("micro_depth", "gone") + "variants = [{name='a'}]",
            "run c/a/0 is invalid: no recipe 'gone'",
        ),
        (
            TINY + "variants = [{name='a', settings={'training.seed'=3}}]",
            "run c/a/0: training.seed is set by the study",
        ),
        (CELL.format("settings={'data.root'='x'}"), "run c/a/0: data.root is set by the study"),
        (
            CELL.format("variant_settings={b={'training.output_dir'='x'}}"),
            "run c/b/0: training.output_dir is set",
        ),
        (
            CELL.format("variant_settings={x={}}"),
            "variant_settings of cell c are for x; expected one of the variants that are trained in this cell: a, b",
        ),
        (
            CELL.format("without=['b'], variant_settings={b={}}"),
            "are for b; expected one of the variants that are trained in this cell: a",
        ),
        (CELL.format("variant_settings={b=3}"), "variant_settings of cell c have b = 3; expected recipe keys"),
        (CELL.format("without=['x']"), "cell c leaves out x; expected one of the variants after the first: b"),
        (CELL.format("without=['a']"), "cell c leaves out a; expected one of the variants after the first: b"),
        (TINY.replace("'c'", "'c', without=['b']") + "variants = [{name='a'}]", "variants after the first: none$"),
        (TINY.replace("[0]", "[1, 1]") + "variants = [{name='a'}]", "two seeds are the same: 1, 1"),
        (
            TINY + "paper = 'p'\nvariants = [{name='a', paper = {x = 1}}]",
            "has x; expected one of the cells and metrics: c, d1",
        ),
        (TINY + "paper = 'p'\nvariants = [{name='a', paper = {d1 = 'high'}}]", "d1 = 'high'; expected a number"),
        (TINY + "variants = [{name='a', paper = {d1 = 1}}]", "the paper's numbers need a description"),
    ],
)
def test_wrong_studies_are_refused(text, said, tmp_path):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(InputError, match=rf"s\.toml.*{said}"):
        read_study(tmp_path / "s.toml")
