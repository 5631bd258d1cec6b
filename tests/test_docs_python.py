"""The blocks of docs/python.md run, on few and small scenes."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clips import plain_frames, write_clip
from metaprompts.synthetic.layouts import write_scenes

DOC = Path(__file__).resolve().parents[1] / "docs/python.md"
TEXT = DOC.read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"## (.*?)\n.*?```python\n(.*?)```", TEXT, flags=re.DOTALL))
SMALL = (
    '"training.steps": 2, "training.batch_size": 2, "training.loss_group_size": None, "training.device": "cpu", '
    '"data.num_workers": 0, "training.report_to": (), "data.image_size": (64, 96), "augment.crop_size": (64, 96)'
)


@pytest.fixture
def scenes(tmp_path, monkeypatch):
    write_scenes("plain", 6, tmp_path / "scenes", val_count=2, height=64, width=96)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)).save(tmp_path / "photo.jpg")
    write_clip(tmp_path / "clip.mp4", plain_frames(3, 64, 96))
    monkeypatch.chdir(tmp_path)


def test_every_section_has_a_block():
    assert list(BLOCKS) == ["Predict", "Video", "Train", "Evaluate", "Your own training loop"]


def test_the_loop_has_20_lines():
    loop = BLOCKS["Your own training loop"].splitlines()
    assert len([line for line in loop if line and "import" not in line]) <= 20


@pytest.mark.parametrize("name", BLOCKS)
def test_block_runs(scenes, name, tmp_path, capsys):
    code = BLOCKS[name]
    if '"training.steps": 200' in code:
        code = code.replace('"training.steps": 200', SMALL)
    exec(compile(code, str(DOC), "exec"), {})
    printed = capsys.readouterr().out
    expected = {
        "Predict": "engine: eager, bf16 (asked for)",
        "Video": "3 frames in depth.mp4\n0.00 s: nearest ",
        "Train": "after step 2: RMSE ",
        "Evaluate": "d1 0.",
        "Your own training loop": "2 {",
    }
    assert expected[name] in printed
    if name == "Train":
        assert re.search(r"step 1: loss \d.*\nstep 2: loss \d", printed)
        assert (tmp_path / "runs/mine/best/model.safetensors").is_file()
    if name == "Evaluate":
        assert (tmp_path / "evaluation-micro-depth/metrics.json").is_file()
