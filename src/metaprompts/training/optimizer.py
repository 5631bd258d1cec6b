"""AdamW with the released recipes' parameter groups."""

from typing import Any

import torch
from torch import nn

from metaprompts.errors import InputError
from metaprompts.modules.backbone.lora import LORA_MARK
from metaprompts.recipes.sections import Optimizer

_BETAS, _EPS = (0.9, 0.999), 1e-8


def parameter_groups(model: nn.Module, settings: Optimizer) -> list[dict[str, Any]]:
    """Sort a model's trainable parameters by learning rate and weight decay.

    Args:
        model: the model; parameters under ``unet.`` are those of its UNet
        settings: the rules

    Returns:
        groups for AdamW, each with "params", "names", "lr", "weight_decay" and "lr_scale", the factor on the schedule's
        learning rate
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        scale, decay = _rates(name, parameter, settings)
        empty = {"params": [], "names": [], "lr": settings.lr * scale, "weight_decay": decay, "lr_scale": scale}
        group = groups.setdefault((scale, decay), empty)
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def make_optimizer(model: nn.Module, settings: Optimizer) -> torch.optim.Optimizer:
    """AdamW over `parameter_groups`, with the released betas (0.9, 0.999).

    Raises:
        InputError: 8-bit Adam is unavailable on this device
    """
    groups = parameter_groups(model, settings)
    if settings.kind == "adamw":
        return torch.optim.AdamW(groups, betas=_BETAS, eps=_EPS, fused=True)
    if not torch.cuda.is_available():
        raise InputError("optimizer.kind adamw_8bit needs an NVIDIA GPU: choose adamw")
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise InputError("optimizer.kind adamw_8bit needs bitsandbytes: pip install 'metaprompts[8bit]'") from error
    optimizer: torch.optim.Optimizer = AdamW8bit(groups, betas=_BETAS, eps=_EPS)
    return optimizer


def _rates(name: str, parameter: nn.Parameter, settings: Optimizer) -> tuple[float, float]:
    """The factor on the learning rate, and the weight decay."""
    if settings.attention_norms_apart and _is_attention_norm(name):
        return 1.0, 0.0
    is_vector = parameter.ndim == 1 or name.endswith(".bias")
    decay = 0.0 if is_vector and not settings.decay_bias_and_norm else settings.weight_decay
    # LoRA layers start at zero and have to learn as fast as the head.
    is_pretrained = name.startswith("unet.") and LORA_MARK not in name
    return (settings.backbone_lr_mult if is_pretrained else 1.0), decay


def _is_attention_norm(name: str) -> bool:
    return name.startswith("unet.") and ".attentions." in name and name.split(".")[-2].startswith("norm")
