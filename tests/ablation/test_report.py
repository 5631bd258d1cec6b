"""The table and the image of what came out."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from ablation.made import results, study
from metaprompts.ablation.report import estimate, figure, markdown
from metaprompts.ablation.study import Variant
from metaprompts.errors import InputError

DIVERGED = "error: the loss is no longer finite at step 3 ({'total': nan}): lower optimizer.lr"
FOUND = results(
    {
        ("small", "ours", 0): 0.5,
        ("small", "ours", 1): 0.7,
        ("small", "ours", 2): 0.6,
        ("small", "theirs", 0): 0.4,
        ("small", "theirs", 1): 0.5,
        ("small", "theirs", 2): DIVERGED,
        ("large", "theirs", 0): 2.0,
        ("large", "theirs", 1): "error: the loss is no longer finite | at step 4",
    }
)


def test_mean_and_interval_as_text():
    assert estimate([1.0, 2.0, 3.0]).text() == "2.000 ± 2.484"
    assert estimate([1.0, 2.0, 3.0]).text("+") == "+2.000 ± 2.484"
    assert [estimate(values).text() for values in ([], [0.5])] == ["-", "0.500"]


def test_differences_are_paired_by_seed():
    scores = {("small", "ours", seed): value for seed, value in enumerate((1.0, 5.0, 9.0))}
    others = {("small", "theirs", 0): 0.5, ("small", "theirs", 2): 7.0, ("small", "theirs", 3): 1.0}
    made = study(seeds=(0, 1, 2, 3))
    found = estimate([-0.5, -2.0])
    p = stats.ttest_rel([1.0, 9.0], [0.5, 7.0]).pvalue
    assert f"| {found.text('+')} | {p:.3f} |" in markdown(made, results(scores | others, made))


def test_table_by_hand():
    """theirs - ours is -0.1 and -0.2: mean -0.15, error 0.05, t 3 with 1 degree of freedom."""
    lines = markdown(study(), FOUND).splitlines()
    p = 1 - 2 / np.pi * np.arctan(3)
    assert lines[:6] == [
        "| cell | metric | variant | seeds | mean, 95 % interval | difference from ours | p |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| small | d1 ↑ | ours | 3 | 0.600 ± 0.248 |  |  |",
        f"|  |  | theirs | 2 | 0.450 ± 0.635 (1 diverged) | -0.150 ± 0.635 | {p:.3f} |",
        "| large | rmse (m) ↓ | ours | 0 | - |  |  |",
        "|  |  | theirs | 1 | 2.000 (1 diverged) | - | - |",
    ]


def test_notes_tell_what_is_missing_diverged_and_unknown():
    text = markdown(study(), FOUND)
    assert "8 of 12 runs have a result." in text
    assert "A single seed has neither an interval nor a test." in text
    assert "Trained at commit unknown (the runs did not record versions)." in text
    assert f"\n- small/theirs/2 diverged: {DIVERGED}" in text
    assert "\n- large/theirs/1 diverged: error: the loss is no longer finite / at step 4" in text


def test_one_seed_has_no_test():
    found = results({("small", "ours", 0): 0.5, ("small", "theirs", 0): 0.25})
    assert "| theirs | 1 | 0.250 | -0.250 | too few seeds |" in markdown(study(), found)


def test_few_seeds_are_said_to_be_few():
    values = {
        (cell, variant, seed): seed
        for cell in ("small", "large")
        for variant in ("ours", "theirs")
        for seed in (0, 1, 2)
    }
    assert "3 seeds are few" in markdown(study(), results(values))
    many = {(c, v, seed): seed for c, v, _ in values for seed in range(6)}
    assert "are few" not in markdown(study(seeds=tuple(range(6))), results(many))


def test_newer_results_tell_where_they_come_from():
    found = {
        name: {**result, "commit": "abc-dirty", "versions": {"torch": "2.9"}, "steps": 250}
        for name, result in FOUND.items()
    }
    assert "Trained for 250 steps at commit abc-dirty, with torch 2.9." in markdown(study(), found)


def test_the_papers_numbers_are_called_the_papers():
    variants = (
        Variant(name="ours", paper={"small": 84.7, "rmse": 0.223}),
        Variant(name="theirs", paper={"rmse": 0.25}),
    )
    made = study(variants=variants, paper="somewhere else")
    lines = markdown(made, FOUND).splitlines()
    assert lines[0].endswith("| the paper's |")
    assert [line.rsplit("|", 2)[1].strip() for line in lines[2:6]] == ["84.7", "", "0.223", "0.25"]
    assert "The paper's column: somewhere else, with different data" in markdown(made, FOUND)


def test_an_unknown_metric_is_named():
    made = study(cells=(dataclasses.replace(study().cells[0], metric="mIoU"),))
    with pytest.raises(InputError, match="small/ours/0 has no 'mIoU'; expected one of d1, rmse"):
        markdown(made, FOUND)


def test_a_number_that_is_not_finite_is_no_value():
    found = results({("small", "ours", 0): float("nan")})
    assert "| small | d1 ↑ | ours | 0 | - (1 diverged) |" in markdown(study(), found)


def test_image_shows_seeds_intervals_and_losses():
    empty, full = figure(study(), {}), figure(study(), FOUND)
    assert empty.shape == full.shape
    assert full.dtype == np.uint8
    red = np.array((190, 30, 40))
    assert (np.abs(full.astype(int) - red).sum(axis=-1) < 30).any()
    assert not (np.abs(empty.astype(int) - red).sum(axis=-1) < 30).any()
    changed = {**FOUND, **results({("small", "theirs", 0): 0.3})}
    assert (figure(study(), changed) != full).any()


def test_a_quick_image_differs():
    made = study()
    assert (figure(made, FOUND) != figure(dataclasses.replace(made, quick=True), FOUND)).any()
