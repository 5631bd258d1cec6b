"""Tiny second encoders of each family, in folders that transformers writes."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    AutoModelForImageClassification,
)

from metaprompts.models.model import MetaPromptModel
from metaprompts.recipes.loader import read_recipe
from metaprompts.training.build_model import build_model
from metaprompts.utils.hub import without_progress_bars
from small import SMALL, tiny_backbone

_VIT = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 56}
_CONVNEXT = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 2, 1]}
FAMILIES = {
    "dinov2": _VIT | {"patch_size": 14, "mlp_ratio": 2},
    "dinov2_with_registers": _VIT | {"patch_size": 14, "mlp_ratio": 2, "num_register_tokens": 2},
    "dinov3_vit": _VIT | {"patch_size": 16, "intermediate_size": 32, "num_register_tokens": 2},
    "dinov3_convnext": _CONVNEXT,
    "convnext": _CONVNEXT,
    "convnextv2": _CONVNEXT,
}


@cache
def second_folder(kind: str) -> str:
    """A folder with random weights, as on the hub: of a model, for some families one of a classifier."""
    folder = tempfile.mkdtemp(prefix=f"second_{kind}")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_second(Path(folder), kind)
    return folder


def write_second(folder: Path, kind: str, **changed: object) -> None:
    config = CONFIG_MAPPING[kind](**FAMILIES[kind] | changed)
    auto = AutoModelForImageClassification if kind in ("convnext", "convnextv2") else AutoModel
    with torch.random.fork_rng(), without_progress_bars():
        torch.manual_seed(0)
        model = auto.from_config(config)
        for parameter in model.parameters():
            # Layer scales of 1e-6, as initialized, would hide what the layers do.
            torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(folder)


def model_with_second(task: str, source: str, *more: str, backbone: str | None = None) -> MetaPromptModel:
    """A small model with a second encoder whose projections are no longer zero."""
    torch.manual_seed(0)
    words = [*SMALL[task], *([] if task == "pose" else ["--data.image_size", "64,64"]), "--prompts.count", "4"]
    words += ["--refinement.steps", "2", "--backbone.source", backbone or tiny_backbone(), "--backbone.second", source]
    model = build_model(read_recipe(f"micro_{task}", [*words, *more])).eval()
    randomize(model)
    return model


def randomize(model: MetaPromptModel) -> None:
    """Give the projections other values than zero."""
    assert model.second_encoder is not None
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.second_encoder.projections.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
