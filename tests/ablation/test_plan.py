"""What is to be trained, and how long it takes."""

import dataclasses

import pytest

from ablation.made import study
from metaprompts.ablation.runs import plan_text, seconds_of
from metaprompts.ablation.study import Cell, Run, Variant


def run(**settings):
    cell = Cell(
        name="c", recipe="scenes_depth", data="scenes", metric="d1", settings={"training.steps": 95, **settings}
    )
    return Run(cell=cell, variant=Variant(name="v"), seed=0)


def test_seconds_by_hand():
    """95 steps of 8 images at 9.5 a second are 80 seconds; a fifth of a step does not grow with K."""
    assert seconds_of(run(**{"refinement.steps": 3})) == pytest.approx(40 + 80)
    assert seconds_of(run(**{"refinement.steps": 1})) == pytest.approx(40 + 80 * (0.2 + 0.8 / 3))


def test_shared_trainings_count_once(tmp_path):
    one = study(seeds=(0,), cells=(run().cell,), variants=(Variant(name="full"), Variant(name="same")))
    other = dataclasses.replace(one, name="other")
    assert plan_text([one, other], tmp_path, 2).splitlines() == [
        "study: 2 runs, 0 done, 0 shared with earlier studies, 1 to do, about 0.0 core hours",
        "other: 2 runs, 0 done, 1 shared with earlier studies, 0 to do, about 0.0 core hours",
        "1 distinct runs in total; about 0.0 hours with --processes 2",
    ]
