"""Deterministic weights for benchmarks: timings match those of trained weights, without a download."""

import math
import zlib
from collections.abc import Container
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from metaprompts.engines.artifact_cache import artifact
from metaprompts.models.config import ModelConfig
from metaprompts.models.model import MetaPromptModel
from metaprompts.models.pretrained import BACKBONE_PARTS
from metaprompts.recipes.loader import read_recipe
from metaprompts.tasks import TASKS
from metaprompts.training.dummy import stand_in_model

# Incremented when the rule changes, so that folders made by an older rule are not used.
_RULE = 2


def rule_made_tensors(model: nn.Module, but: Container[str] = ()) -> dict[str, Tensor]:
    """Synthetic tensors of a model, each determined only by its name, shape and layer.

    Matrices and filters are normally distributed; vectors are close to a fresh layer's initial values.

    Args:
        model: may be on the meta device
        but: names to leave out

    Returns:
        name -> tensor, on the CPU
    """
    spreads, state = _spreads(model), model.state_dict()
    return {name: _filled(name, each, spreads.get(name)) for name, each in state.items() if name not in but}


def _filled(name: str, like: Tensor, spread: float | None) -> Tensor:
    if not like.is_floating_point():
        return torch.zeros(like.shape, dtype=like.dtype)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    normal = torch.randn(like.shape, generator=generator, dtype=torch.float32)
    if like.ndim >= 2:
        normal *= like[0].numel() ** -0.5 if spread is None else spread
    elif name.endswith("running_var"):
        normal = 1 + 0.1 * normal.abs()
    elif name.endswith("weight"):
        normal = 1 + 0.1 * normal
    else:
        normal *= 0.02
    return normal.to(like.dtype)


def _spreads(model: nn.Module) -> dict[str, float]:
    """Standard deviations of a model's filters, by name, that keep activations from growing or vanishing.

    The value is 1 / sqrt(fan-in), and sqrt(2) times that outside the backbone, where a ReLU removes half of the power
    and batch norms do not restore it. A transposed convolution's fan-in counts the inputs of one output pixel.
    """
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            inputs = module.in_channels // module.groups * math.prod(module.kernel_size)
            fan_in = inputs / math.prod(module.stride) if isinstance(module, nn.ConvTranspose2d) else inputs
            gain = 1 if name.startswith(BACKBONE_PARTS) else 2**0.5
            found[f"{name}.weight"] = gain * fan_in**-0.5
    return found


def full_width_config(task: str) -> ModelConfig:
    """The published model of a task on Stable Diffusion 1.5; it predicts images of any size without resizing."""
    published = TASKS[task].published
    assert published is not None
    with torch.device("meta"):
        config = stand_in_model(read_recipe(published)).config
    return replace(config, working_size=None)


def rule_made_folder(config: ModelConfig, cache: Path | None = None) -> Path:
    """A model folder with synthetic weights, cached (see `artifact`) so that all processes map the same file."""
    model, what = MetaPromptModel.from_config(config), {"rule": _RULE, "config": config.to_dict()}
    return artifact(what, lambda folder: model.save(folder, state=rule_made_tensors(model)), cache)
