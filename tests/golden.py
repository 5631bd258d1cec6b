"""The rule that makes the golden weights and inputs, and where the golden files are."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

SHARED = Path(__file__).resolve().parents[2] / "shared"
GOLDEN = SHARED / "golden"

needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden outputs of the released code are not here")
needs_data = pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="the real images are not here")


def generator(name: str, salt: str = "") -> np.random.Generator:
    seed = int.from_bytes(hashlib.sha256((salt + name).encode()).digest()[:8], "little")
    return np.random.Generator(np.random.PCG64(seed))


def normal(name: str, shape: tuple[int, ...], salt: str = "") -> np.ndarray:
    return generator(name, salt).standard_normal(shape).astype(np.float32)


def golden_tensor(name: str, shape: tuple[int, ...], salt: str = "") -> Tensor:
    last = name.split(".")[-1]
    if last == "num_batches_tracked":
        return torch.tensor(0)
    z = normal(name, shape, salt)
    if last == "running_mean":
        z = np.float32(0.1) * z
    elif last == "running_var":
        z = 1 + np.float32(0.1) * np.abs(z)
    elif last.startswith("meta_prompts") or (last[0] == "t" and last[1:].isdigit()):
        pass
    elif len(shape) >= 2:
        z = z * np.float32(1 / np.sqrt(np.prod(shape[1:])))
    elif last == "weight":
        z = 1 + np.float32(0.1) * z
    else:
        assert last == "bias", name
        z = np.float32(0.02) * z
    return torch.from_numpy(np.asarray(z, np.float32))


def layout(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"layout_{name}.json").read_text())


def golden_state(name: str, salt: str = "") -> dict[str, Tensor]:
    """The state dict of a released checkpoint, tied tensors under all their names."""
    described = layout(name)
    tied = {
        alias: next(n for n in group if "diffusion_model.out" in n) for group in described["aliases"] for alias in group
    }
    state: dict[str, Tensor] = {}
    for key, shape in described["shapes"].items():
        if key.startswith("sd_model."):
            state[key] = torch.zeros(shape)
            continue
        source = tied.get(key, key)
        state[key] = state[source] if source in state else golden_tensor(source, tuple(shape), salt)
    return state


def golden_input(shape: tuple[int, ...], salt: str = "") -> Tensor:
    """(B, 3, H, W) in [0, 1]."""
    return torch.sigmoid(torch.from_numpy(normal("input", shape, salt)))


def preset_of(task: str) -> str:
    return {"depth_nyu": "nyu", "depth_kitti": "kitti", "seg_ade": "ade20k", "seg_cityscapes": "cityscapes"}[task]


def layout_of(task: str) -> str:
    return "depth_nyu" if task == "depth_kitti" else task
