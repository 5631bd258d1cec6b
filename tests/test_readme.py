"""The README's Python blocks run, on a small model in the place of MODEL."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
