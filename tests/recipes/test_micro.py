"""The miniature recipes, from generated scenes in the official layout to scores, by the commands that a user types."""

import json
from pathlib import Path

import pytest

from metaprompts.cli import main

LAYOUTS = {
    "micro_nyu": "nyu",
    "micro_cityscapes": "cityscapes",
    "micro_coco_pose": "coco",
    "micro_kitti": "kitti",
    "micro_ade20k": "ade20k",
    "micro_ade20k_ms": "ade20k",
    "micro_mapillary": "mapillary",
}
BEST = {"nyu": "rmse", "kitti": "rmse", "coco": "AP"}
# One of each task is slow, the others are in the full run.
SLOW = ("micro_nyu", "micro_cityscapes", "micro_coco_pose")
SHORT = ("--training.steps", "3", "--training.batch_size", "2", "--data.num_workers", "0", "--training.device", "cpu")
SHORT += ("--training.report_to", "none")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else pytest.mark.full) for name in LAYOUTS]
)
def test_from_scenes_to_scores(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layout = LAYOUTS[name]
    scenes(layout)
    assert main(["data", "check", name, "--data.root", layout]) == 0
    train_and_evaluate(name, layout)


@pytest.mark.full
def test_two_stages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, layout in (("micro_mapillary", "mapillary"), ("micro_cityscapes_mapillary", "cityscapes")):
        scenes(layout)
        train_and_evaluate(name, layout)


pytestmark = pytest.mark.usefixtures("no_curves")


def scenes(layout):
    assert main(["scenes", "--layout", layout, "--count", "6", "--val-count", "3", "--out", layout]) == 0


def train_and_evaluate(name, layout):
    assert main(["train", name, "--data.root", layout, *SHORT]) == 0
    assert main(["evaluate", f"runs/{name}/best", "--data.root", layout, "--data.num_workers", "0"]) == 0
    found = json.loads(Path(f"runs/{name}/best/evaluation/metrics.json").read_text())
    assert BEST.get(layout, "mIoU") in found
