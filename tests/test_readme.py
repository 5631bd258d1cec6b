"""The README's Python blocks run, on a small model in the place of MODEL."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metaprompts.recipes.loader import read_recipe
from metaprompts.training.build_model import build_model
from small import small_model

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_there_are_blocks():
    assert len(BLOCKS) >= 2


@pytest.mark.parametrize("block", BLOCKS)
def test_block_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small_model("depth").save("MODEL")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)).save("photo.jpg")
    exec(compile(block, str(README), "exec"), {})


RUNS = [line.split()[2:] for line in README.read_text(encoding="utf-8").splitlines() if "train micro_" in line]
FROM_EMBEDDED = [words for words in RUNS if any(word.startswith("micro-") for word in words)]


def test_initial_weights_fit_the_recommended_recipes(caplog):
    """The command for depth warned of a head that did not fit, and README did not say why."""
    assert len(FROM_EMBEDDED) == 3
    warned = {}
    for recipe, *words in FROM_EMBEDDED:
        caplog.clear()
        build_model(read_recipe(recipe, words))
        warned[recipe] = [record.getMessage() for record in caplog.records]
    # The classes of CamVid: those that the embedded model lacks are new, as README says.
    assert [text.rpartition("; ")[2] for text in warned.pop("micro_segmentation")] == [
        "newly initialized: fence, pedestrian, bicyclist"
    ]
    assert warned == {"micro_depth": [], "micro_pose": []}
