"""Deterministic weights for benchmarks, as good as trained weights for timing, and never downloaded."""

import math
import zlib
from collections.abc import Container
from dataclasses import replace
from pathlib import Path
from typing import Any

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
    """Synthetic tensors of a model.

    Args:
        model: may be on the meta device
        but: names to leave out
    """
    spread = spreads(model)
    return {
        name: synthetic_weights(name, each, spread.get(name))
        for name, each in model.state_dict().items()
        if name not in but
    }


def synthetic_weights(name: str, like: Tensor, spread: float | None = None) -> Tensor:
    """A tensor's content, determined only by its name and shape.

    Matrices and filters are normally distributed; vectors are close to a fresh layer's initial values.

    Args:
        name: name of the tensor in the model
        like: tensor of the expected shape and type; its values are not read
        spread: standard deviation of matrices and filters, see `spreads`; by default 1 / sqrt(fan-in)

    Returns:
        the tensor, on the CPU
    """
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


def spreads(model: nn.Module) -> dict[str, float]:
    """Standard deviations of a model's filters, by name, that keep activations from growing or vanishing.

    The value is 1 / sqrt(fan-in), and sqrt(2) times that outside the backbone, where a ReLU removes half of the power
    and batch norms do not restore it. A transposed convolution's fan-in counts the inputs of one output pixel.

    Args:
        model: the model; the values of its filters are not read
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
    """The published model of a task on Stable Diffusion 1.5; it predicts images of any size without resizing.

    Args:
        task: a task that has a published model
    """
    published = TASKS[task].published
    assert published is not None
    with torch.device("meta"):
        config = stand_in_model(read_recipe(published)).config
    return replace(config, working_size=None)


def rule_made_folder(config: ModelConfig, cache: Path | None = None) -> Path:
    """A model folder with synthetic weights, created once and cached, so that all processes map the same file.

    Args:
        config: config of the model
        cache: cache folder; by default see `cache_folder`

    Raises:
        InputError: the folder cannot be written
    """
    what: dict[str, Any] = {"rule": _RULE, "config": config.to_dict()}
    return artifact(what, lambda folder: _save(config, folder), cache)


def _save(config: ModelConfig, folder: Path) -> None:
    model = MetaPromptModel.from_config(config)
    model.save(folder, state=rule_made_tensors(model))
