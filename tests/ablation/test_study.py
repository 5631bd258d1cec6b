"""Studies: what they train, and which trainings are the same."""

import dataclasses
from pathlib import Path

import pytest

from ablation.made import study
from metaprompts.ablation.study import Cell, GeneratedScenes, Run, Variant, read_study, told_values
from metaprompts.errors import InputError
from metaprompts.recipe import read_recipe
from metaprompts.typed import build

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "studies").glob("*.toml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_shipped_studies_name_recipes_and_keys_that_exist(path, tmp_path):
    read = read_study(path)
    assert len(read.runs()) == len(read.cells) * len(read.variants) * len(read.seeds)
    for run in read.runs():
        recipe, *words = run.words(tmp_path, tmp_path / "out")
        try:
            made = read_recipe(recipe, words)
        except InputError as error:
            if path.stem == "interfaces" and "unknown key" in str(error):
                pytest.skip(f"this version has one interface: {error}")
            raise
        assert made.training.seed == run.seed
        assert made.training.out == tmp_path / "out"


def test_there_are_the_papers_studies_and_ours():
    assert {path.stem for path in STUDIES} == {
        *("interfaces", "prompts", "steps", "rearrangement", "time"),
        *("prior", "trainable"),
    }


def test_shipped_studies_share_the_full_method_and_its_scenes():
    studies = [read_study(path) for path in STUDIES]
    assert len({study.scenes for study in studies}) == 1
    full = {study.name: {run.key for run in study.runs() if run.variant.name in ("full", "prior")} for study in studies}
    for name in ("prompts", "time", "trainable", "interfaces"):
        assert full[name] < full["rearrangement"] == full["steps"]
    assert len(full["prior"] & full["steps"]) == 12


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
    assert not {"data.root", "training.out", "backbone.forget_unet"} & set(settings)


def test_a_key_that_a_later_version_adds_changes_nothing():
    @dataclasses.dataclass(frozen=True)
    class Now:
        count: int = 1
        size: tuple[int, int] = (2, 3)

    @dataclasses.dataclass(frozen=True)
    class Later(Now):
        kind: str = "meta"
        more: tuple[int, ...] = dataclasses.field(default_factory=tuple)

    assert told_values(Now(count=2)) == told_values(Later(count=2)) == {"count": 2}


def test_a_variant_overrides_its_cell_and_the_seed_is_the_runs_own():
    one = Cell(
        name="c", recipe="micro_depth", data="here", metric="d1", settings={"training.steps": 5, "prompts.count": 9}
    )
    made = study(
        cells=(one,), variants=(Variant(name="v", settings={"training.steps": 7, "data.image_size": [64, 128]}),)
    )
    words = made.runs()[1].words(Path("pictures"), Path("out"))
    assert words[0] == "micro_depth"
    assert set(words[1:]) == {
        "--training.steps=7",
        "--prompts.count=9",
        "--data.image_size=64,128",
        "--training.seed=1",
        "--data.root=pictures",
        "--training.out=out",
    }


def test_first_seeds_are_trained_first():
    assert [run.seed for run in study().runs()] == [0] * 4 + [1] * 4 + [2] * 4


def test_a_study_is_named_after_its_file(tmp_path):
    (tmp_path / "mine.toml").write_text(
        TINY + "variants = [{name='a'}]\n[scenes]\ncount = 9\nval_count = 3\nparts = [2]"
    )
    read = read_study(tmp_path / "mine.toml")
    assert read.name == "mine"
    assert read.scenes == build(GeneratedScenes, {"count": 9, "val_count": 3, "parts": [2]})


TINY = "title = 't'\nseeds = [0]\ncells = [{name='c', recipe='r', data='d', metric='m'}]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title = ", "no valid TOML"),
        ("title = 't'\nseeds = [0]\ncells = []\nvariants = []", "no cells"),
        ("title = 't'\nseeds = [0]\nvariant = []", "did you mean study.variants"),
        (TINY + "variants = [{name='a'}, {name='a'}]", "same name"),
        (TINY + "variants = [{name='a/b'}]", "file's name"),
        (TINY.replace("[0]", "[1, 1]") + "variants = [{name='a'}]", "a seed is there twice"),
        (TINY + "paper = 'p'\nvariants = [{name='a', paper = {x = 1}}]", "names x: no cell and no metric"),
        (TINY + "paper = 'p'\nvariants = [{name='a', paper = {m = 'high'}}]", "m = 'high'; wanted a number"),
        (TINY + "variants = [{name='a', paper = {m = 1}}]", "say of what"),
    ],
)
def test_wrong_studies_are_refused(text, said, tmp_path):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(InputError, match=said):
        read_study(tmp_path / "s.toml")
