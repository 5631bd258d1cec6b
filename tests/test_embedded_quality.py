"""The embedded models see: on scenes of other seeds, far above constant predictions."""

import json

import pytest

from metaprompts.cli import main
from metaprompts.demo.scoring import scores_of, shown_tasks, subject_of
from metaprompts.embedded import embedded_folder
from slow import slow_except

# Metric, the least that is expected on 256 scenes, and how many times the best constant answer it must be.
WANTED = {"segmentation": ("mIoU", 0.45, 3.0), "depth": ("d1", 0.60, 1.5), "pose": ("AP", 0.35, 6.0)}
SEED = 7_000_000
LARGEST_BYTES = 40 * 10**6


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes") / "scenes"
    words = ["--layout", "plain", "--count", "56", "--val-count", "24", "--seed", str(SEED), "--out", str(folder)]
    assert main(["scenes", *words]) == 0
    return folder


@pytest.mark.parametrize("task", slow_except(shown_tasks(), "pose"))
def test_it_beats_constant_predictions(task, scenes):
    metric, least, factor = WANTED[task]
    scores = {score.metric: score for score in scores_of(subject_of(task, scenes))}
    assert scores[metric].model > least
    assert scores[metric].model > factor * scores[metric].baseline
    for score in scores.values():
        assert (score.model > score.baseline) == (score.better == "higher"), score


@pytest.mark.slow
def test_it_is_evaluated_by_its_name(scenes, tmp_path):
    words = ["--data.root", str(scenes), "--data.num_workers", "0", "--out", str(tmp_path / "found")]
    assert main(["evaluate", "micro-depth", *words]) == 0
    assert json.loads((tmp_path / "found/metrics.json").read_text())["d1"] > WANTED["depth"][1]


def test_the_embedded_files_are_small_and_of_no_machine():
    files = [path for path in embedded_folder(".").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LARGEST_BYTES
    recipes = [json.loads(path.read_text()) for path in files if path.name == "recipe.json"]
    assert len(recipes) == 3
    assert {(recipe["data"]["root"], recipe["backbone"]["source"]) for recipe in recipes} == {(None, "micro")}
