"""Models in another precision than single."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import metaprompts
from metaprompts.errors import InputError
from metaprompts.models.config import Prompts, Rearrangement, Refinement
from metaprompts.models.model import MetaPromptModel
from metaprompts.modules.backbone import load_backbone
from metaprompts.tasks import Depth
from slow import slow_except
from small import small_model

IMAGE = np.random.default_rng(0).integers(0, 255, (100, 130, 3), dtype=np.uint8)

# Prints by how many bytes the process's own memory grew at most while a model was loaded.
_GROWTH = """
import json, sys, threading
from pathlib import Path
import torch
from metaprompts.models.loading import load
from metaprompts.models.model import MetaPromptModel

def anonymous():
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024

def watch():
    while not done.is_set():
        seen.append(anonymous())

load("micro-depth", "cpu")
done, seen = threading.Event(), [before := anonymous()]
watcher = threading.Thread(target=watch)
watcher.start()
model = load(sys.argv[1], "cpu", torch.bfloat16)
done.set()
watcher.join()
print(json.dumps({"grown": max(seen) - before, "weights": sum(p.nbytes for p in model.parameters())}))
"""


@pytest.mark.parametrize("dtype", slow_except([torch.bfloat16, torch.float16, torch.float64], torch.bfloat16))
@pytest.mark.slow
def test_weights_are_the_files_rounded(dtype: torch.dtype, tmp_path: Path) -> None:
    model = small_model("depth")
    model.save(tmp_path)

    loaded = MetaPromptModel.from_pretrained(tmp_path, dtype=dtype)

    assert loaded.dtype == dtype
    for name, tensor in model.state_dict().items():
        expected = tensor.to(dtype) if tensor.is_floating_point() else tensor
        assert loaded.state_dict()[name].equal(expected), name


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_no_copy_in_single_precision_is_made(tmp_path: Path) -> None:
    """Nearly 200 MB in single precision, almost all of it prompts, take half of that."""
    settings = {
        "prompts": Prompts(count=16_000, per_step=True),
        "refinement": Refinement(steps=48),
        "rearrangement": Rearrangement(enabled=False),
    }
    MetaPromptModel.from_backbone("random:micro", task=Depth(max_depth_m=10.0, filters=4, width=8), **settings).save(
        tmp_path
    )

    words = [sys.executable, "-c", _GROWTH, str(tmp_path)]
    found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)

    assert found["weights"] > 96e6
    assert found["grown"] < 1.2 * found["weights"]


@pytest.mark.parametrize("dtype", slow_except([torch.bfloat16, torch.float64], torch.bfloat16))
@pytest.mark.parametrize(("task", "what"), [("segmentation", "confidence"), ("depth", "depth_m"), ("pose", "people")])
def test_predictions_are_in_single_precision(task: str, what: str, dtype: torch.dtype) -> None:
    single, other = metaprompts.load(f"micro-{task}", "cpu"), metaprompts.load(f"micro-{task}", "cpu", dtype)

    expected, found = (getattr(model.predict(IMAGE), what) for model in (single, other))
    if task == "pose":
        expected, found = expected[0].scores, found[0].scores

    assert found.dtype == np.float32
    tolerance = 0.1 if dtype == torch.bfloat16 else 1e-3
    assert np.abs(found - expected).mean() < tolerance * np.abs(expected).mean()


@pytest.mark.slow
def test_windows_of_a_model_in_half_precision() -> None:
    expected, found = (
        metaprompts.load("micro-depth", "cpu", dtype).predict(IMAGE, window=(64, 64))
        for dtype in (torch.float32, torch.bfloat16)
    )

    assert found.depth_m.dtype == np.float32
    assert np.abs(found.depth_m - expected.depth_m).mean() < 0.1 * expected.depth_m.mean()


def test_refuses_what_is_no_precision_of_weights(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dtype is torch\.int8; expected one of torch\.float64, torch\.float32"):
        metaprompts.load("micro-depth", "cpu", torch.int8)


def test_a_shared_base_keeps_its_precision(tmp_path: Path) -> None:
    base = load_backbone("micro")
    with pytest.raises(InputError, match="the base is shared with other models: omit dtype"):
        MetaPromptModel.from_pretrained(tmp_path, base=base, dtype=torch.bfloat16)
