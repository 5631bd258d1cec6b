"""AdamW with the released recipes' parameter groups."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import nn

from metaprompts.errors import InputError
from metaprompts.modules.backbone.lora import LORA_MARK
from metaprompts.utils.schema import Range, check_ranges

_BETAS, _EPS = (0.9, 0.999), 1e-8


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Settings of AdamW.

    Attributes:
        lr: learning rate at the schedule's height, of everything but the UNet
        weight_decay: decoupled weight decay
        unet_lr_scale: factor on the learning rate of the UNet, its output layer included, LoRA excepted
        decay_vectors: whether biases and other one-dimensional tensors decay too (released: segmentation yes, depth no)
        attention_norms_apart: whether the norm layers around the UNet's attention train at the full learning rate and
            without decay. In the released segmentation recipe the key "norm" beats the key "unet", so they do.
        clip_norm: largest norm of all gradients together; none to leave them
        kind: "adamw", or "adamw_8bit", whose moments take a quarter of the memory (needs the extra ``8bit``)
    """

    lr: Annotated[float, Range(0, 1e38)]
    weight_decay: Annotated[float, Range(0, 1e38)]
    unet_lr_scale: Annotated[float, Range(0, 1e6)] = 1.0
    decay_vectors: bool = True
    attention_norms_apart: bool = False
    clip_norm: Annotated[float, Range(0, 1e9, above=True)] | None = None
    kind: Literal["adamw", "adamw_8bit"] = "adamw"

    def __post_init__(self) -> None:
        check_ranges(self, "optimizer")


def parameter_groups(model: nn.Module, settings: Optimizer) -> list[dict[str, Any]]:
    """Sort a model's trainable parameters by learning rate and weight decay.

    Args:
        model: its UNet's parameters are those under ``unet.``
        settings: the rules

    Returns:
        groups for AdamW, each with "params", "names", "lr", "weight_decay" and "lr_scale", the factor that the
        schedule's learning rate is multiplied by
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
        InputError: 8-bit moments are wanted where they are not to be had
    """
    groups = parameter_groups(model, settings)
    if settings.kind == "adamw_8bit":
        return _adamw_8bit(groups)
    return torch.optim.AdamW(groups, betas=_BETAS, eps=_EPS, fused=True)


def _adamw_8bit(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    if not torch.cuda.is_available():
        raise InputError("optimizer.kind adamw_8bit wants an NVIDIA GPU: choose adamw")
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
    decay = 0.0 if is_vector and not settings.decay_vectors else settings.weight_decay
    # What LoRA adds to the UNet begins at nothing and has to learn as fast as the head.
    is_pretrained = name.startswith("unet.") and LORA_MARK not in name
    return (settings.unet_lr_scale if is_pretrained else 1.0), decay


def _is_attention_norm(name: str) -> bool:
    return name.startswith("unet.") and ".attentions." in name and name.split(".")[-2].startswith("norm")
