"""Studies: what they train, and the table of what came out."""

import math
from pathlib import Path

import pytest

from metaprompts.ablation.study import Cell, Study, Variant, read_study
from metaprompts.ablation.summary import Entry, entry, markdown, paired_difference
from metaprompts.errors import InputError
from metaprompts.recipe import read_recipe

STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.toml"))


def study(**changes):
    values = {
        "title": "t",
        "seeds": (0, 1, 2),
        "cells": (
            Cell(name="small", recipe="micro_depth", data="here", metric="d1", settings={"training.steps": 5}),
            Cell(name="large", recipe="micro_depth", data="here", metric="rmse", higher_is_better=False),
        ),
        "variants": (Variant(name="ours"), Variant(name="theirs", settings={"backbone.forget_unet": True})),
    }
    return Study(**(values | changes))


def results(values):
    """{(cell, variant, seed): value, or None for a training that failed}."""
    return {
        f"{cell}--{variant}--{seed}": {
            "seed": seed,
            **({"failed": "nan"} if value is None else {"scores": {"d1": value, "rmse": value}}),
        }
        for (cell, variant, seed), value in values.items()
    }


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_shipped_studies_name_recipes_and_keys_that_exist(path, tmp_path):
    read = read_study(path)
    assert len(read.runs()) == len(read.cells) * len(read.variants) * len(read.seeds)
    for run in read.runs():
        recipe, *words = run.words(tmp_path, tmp_path / "out")
        made = read_recipe(recipe, words)
        assert made.training.seed == run.seed
        assert made.training.out == tmp_path / "out"


def test_there_are_studies():
    assert STUDIES


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


TINY = "title = 't'\nseeds = [0]\ncells = [{name='c', recipe='r', data='d', metric='m'}]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title = ", "no valid TOML"),
        ("title = 't'\nseeds = [0]\ncells = []\nvariants = []", "no cells"),
        ("title = 't'\nseeds = [0]\nvariant = []", "did you mean study.variants"),
        (TINY + "variants = [{name='a'}, {name='a'}]", "same name"),
        (TINY + "variants = [{name='a/b'}]", "file's name"),
    ],
)
def test_wrong_studies_are_refused(text, said, tmp_path):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(InputError, match=said):
        read_study(tmp_path / "s.toml")


def test_mean_and_spread_by_hand():
    made = Entry(values={0: 1.0, 1: 2.0, 2: 6.0}, failed=1)
    assert made.mean == 3.0
    assert made.spread == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert str(made) == "3.000 ± 2.646 (1 diverged)"
    assert str(Entry(values={}, failed=2)) == "- (2 diverged)"
    assert str(Entry(values={4: 0.5}, failed=0)) == "0.500"


def test_differences_are_taken_seed_by_seed():
    one, other = Entry(values={0: 1.0, 1: 5.0, 2: 9.0}, failed=0), Entry(values={0: 0.5, 2: 7.0, 3: 1.0}, failed=0)
    assert paired_difference(one, other).values == {0: 0.5, 2: 2.0}


def test_table_has_every_cell_and_counts_what_failed():
    found = results(
        {
            ("small", "ours", 0): 0.5,
            ("small", "ours", 1): 0.7,
            ("small", "theirs", 0): 0.4,
            ("small", "theirs", 1): None,
            ("large", "theirs", 0): 2.0,
        }
    )
    made = study()
    assert entry(made, made.cells[0], made.variants[1], found).failed == 1
    assert markdown(made, found).splitlines() == [
        "|  | metric | ours | theirs | ours - theirs |",
        "| --- | --- | --- | --- | --- |",
        "| small | d1 ↑ | 0.600 ± 0.141 | 0.400 (1 diverged) | +0.100 |",
        "| large | rmse ↓ | - | 2.000 | - |",
    ]
