"""Load several adapters that were trained on one frozen backbone."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from metaprompts.errors import InputError
from metaprompts.models.model import MetaPromptModel
from metaprompts.modules.backbone import load_backbone
from metaprompts.modules.backbone.encoder_cache import EncoderCache
from metaprompts.utils.device import pick_device


def load_adapters(
    base: str, folders: Sequence[str | Path], device: str | torch.device | None = None
) -> list[MetaPromptModel]:
    """Load adapters of one frozen backbone; they share its weights and the latents of an image.

    Adapters with the same second encoder also share its weights and maps.

    Args:
        base: the backbone, see `load_backbone`
        folders: folders written by `metaprompts train --training.trainable lora` or ``prompts``, each for a different
            task
        device: the models' device; by default the GPU if there is one, else the CPU

    Raises:
        InputError: a folder holds no adapter or has a different base, or two adapters have the same task
    """
    chosen, backbone, latents = pick_device(device), load_backbone(base), EncoderCache()
    # Move the base first, so that shared weights are not copied for each model.
    backbone.unet.to(chosen)
    backbone.vae.to(chosen)
    models, of_seconds = [], dict[nn.Module, EncoderCache]()
    for folder in folders:
        model = MetaPromptModel.from_pretrained(folder, base=backbone).to(chosen)
        models.append(model)
        if (second := model.second_encoder) is not None:
            backbone = replace(backbone, second=second.backbone)
            second.cache = of_seconds.setdefault(second.network, EncoderCache())
    by_task: dict[str, str | Path] = {}
    for folder, model in zip(folders, models, strict=True):
        if model.config.base is None:
            raise InputError(f"{folder} has its own backbone: load it separately")
        if (other := by_task.setdefault(model.task.name, folder)) is not folder:
            raise InputError(f"{other} and {folder} both predict {model.task.name}: give only one of them")
        model.latent_encoder.cache = latents
    return models
