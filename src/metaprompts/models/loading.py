"""Load a model from a folder, the Hub or the package, or several adapters of one frozen backbone."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from metaprompts.embedded import embedded_folder, embedded_models
from metaprompts.errors import InputError
from metaprompts.models.config import ModelConfig
from metaprompts.models.model import MetaPromptModel
from metaprompts.models.pretrained import CONFIG_FILE, WEIGHTS_FILE
from metaprompts.modules.backbone import load_backbone
from metaprompts.modules.backbone.encoder_cache import EncoderCache
from metaprompts.utils.device import pick_device
from metaprompts.utils.files import read_json
from metaprompts.utils.hub import hub_folder


def load(
    source: str | Path, device: str | torch.device | None = None, dtype: torch.dtype | None = None
) -> MetaPromptModel:
    """Load a model, ready to predict.

    Args:
        source: a folder written by `MetaPromptModel.save`, a hub id, or the name of an embedded model:
            "micro-segmentation", "micro-depth", "micro-pose"
        device: the model's device; by default the GPU if there is one, else the CPU
        dtype: precision of the weights, for example torch.bfloat16, by default float32. Predictions are always in
            single precision

    Raises:
        InputError: the model does not exist, or does not load
    """
    chosen = pick_device(device)
    return MetaPromptModel.from_pretrained(model_folder(source), dtype=dtype).to(chosen)


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
    for folder in folders:
        _check_backbone(base, folder)
    chosen, backbone, latents = pick_device(device), load_backbone(base), EncoderCache()
    # Move the base first, so that shared weights are not copied for each model.
    backbone.unet.to(chosen)
    backbone.vae.to(chosen)
    models, of_seconds, by_task = [], dict[nn.Module, EncoderCache](), dict[str, str | Path]()
    for folder in folders:
        model = MetaPromptModel.from_pretrained(folder, base=backbone).to(chosen)
        if model.config.base is None:
            raise InputError(f"{folder} has its own backbone: load it separately")
        if (other := by_task.setdefault(model.task.name, folder)) is not folder:
            raise InputError(f"{other} and {folder} both predict {model.task.name}: give only one of them")
        model.latent_encoder.cache = latents
        if (second := model.second_encoder) is not None:
            backbone = replace(backbone, second=second.backbone)
            second.cache = of_seconds.setdefault(second.network, EncoderCache())
        models.append(model)
    return models


def _check_backbone(base: str, adapter: str | Path) -> None:
    """Check that the base of an adapter is not a model for a task, whose backbone may differ.

    Raises:
        InputError: the base is a model, or the folder holds no adapter's config
    """
    path = Path(base).expanduser()
    is_model = (path / CONFIG_FILE).is_file() or (base in embedded_models() and not path.exists())
    if not is_model:
        return
    named = ModelConfig.from_dict(read_json(Path(adapter).expanduser() / CONFIG_FILE)).base
    if named is None:
        raise InputError(f"{adapter} has its own backbone: load it separately")
    raise InputError(
        f"{base} is a model for a task, not the backbone that {adapter} was trained on: give that backbone, "
        f"{named.source}"
    )


def model_folder(source: str | Path) -> Path:
    """The folder of a model; a hub id is downloaded to the cache.

    Args:
        source: a folder, a hub id, or the name of an embedded model

    Raises:
        InputError: the model does not exist
    """
    path = Path(source).expanduser()
    if not path.is_dir() and str(source) in embedded_models():
        path = embedded_folder(str(source))
    if path.is_dir():
        models = [path / name for name in ("best", "last") if (path / name / CONFIG_FILE).is_file()]
        if models and not (path / CONFIG_FILE).exists():
            found = " or ".join(map(str, models))
            raise InputError(f"{path} is a run folder, not a model folder: give {found}")
        return path
    if str(source).count("/") != 1 or path.is_absolute() or path.exists() or str(source).startswith("."):
        raise InputError(
            f"no model at {source}: give a folder with {CONFIG_FILE} and {WEIGHTS_FILE}, "
            f"a hub id, or one of {', '.join(embedded_models())}"
        )
    return hub_folder(str(source), [CONFIG_FILE, WEIGHTS_FILE])
