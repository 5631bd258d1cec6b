"""Load the image backbone of a second encoder from the hub or a folder, or build it from its architecture."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, MODEL_FOR_BACKBONE_MAPPING, PreTrainedConfig

from metaprompts.errors import InputError, one_line
from metaprompts.modules.backbone.loading import RANDOM, Backbone, check_sizes
from metaprompts.modules.backbone.second_encoder import VISION_TRANSFORMERS, ImageBackbone, RotaryPositions
from metaprompts.modules.backbone.weight_files import (
    TRANSFORMERS_STAGES,
    check_complete,
    download,
    load_from_transformers,
)
from metaprompts.utils.files import is_file, read_json

FAMILIES = (*VISION_TRANSFORMERS, "dinov3_convnext", "convnext", "convnextv2")
"""The types of transformers' backbones (those of its AutoBackbone) that a second encoder may have."""

_CONFIG, _PROCESSOR = "config.json", "preprocessor_config.json"
_VIT_SIZES = {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16), "giant": (1536, 40, 24)}


def _transformer(kind: str, width: int, layers: int, heads: int, **more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    return {"model_type": kind, **sizes, **more}


_ARCHITECTURES: dict[str, dict[str, Any]] = {
    "dinov2-micro": _transformer("dinov2", 32, 4, 2, mlp_ratio=2, patch_size=8, image_size=64),
    **{
        f"dinov2-{size}": _transformer("dinov2", *shape, image_size=518, use_swiglu_ffn=size == "giant")
        for size, shape in _VIT_SIZES.items()
    },
    **{
        f"dinov3-{size}": _transformer("dinov3_vit", *shape, intermediate_size=4 * shape[0], num_register_tokens=4)
        for size, shape in _VIT_SIZES.items()
        if size != "giant"
    },
    "convnext-tiny": {"model_type": "convnext", "depths": [3, 3, 9, 3], "hidden_sizes": [96, 192, 384, 768]},
    "convnext-small": {"model_type": "convnext", "depths": [3, 3, 27, 3], "hidden_sizes": [96, 192, 384, 768]},
    "convnext-base": {"model_type": "convnext", "depths": [3, 3, 27, 3], "hidden_sizes": [128, 256, 512, 1024]},
}
# Hub ids -> their architecture, so that `metaprompts memory` needs no download.
_HUB_IDS = {
    **{f"facebook/dinov2-{size}": f"dinov2-{size}" for size in _VIT_SIZES},
    **{f"facebook/dinov3-vit{size[0]}16-pretrain-lvd1689m": f"dinov3-{size}" for size in ("small", "base", "large")},
    **{f"facebook/convnext-{size}-224": f"convnext-{size}" for size in ("tiny", "small", "base")},
}
# ImageNet's statistics, with which all families were trained.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# These entries are set by transformers from the others.
_DERIVED = ("stage_names", "out_features", "out_indices", "model_type")


def load_second(source: str, levels: int) -> ImageBackbone:
    """Load the image backbone of a second encoder, in float32 on the CPU, frozen.

    Args:
        source: one of

            - a hub id, for example "facebook/dinov2-base"; cached files need no network
            - a folder that transformers wrote, with config.json and .safetensors or .bin weights
            - "random:dinov2-micro", "random:dinov2-base", ...: an architecture with random weights
        levels: number of maps to return, one per level of the pyramid

    Raises:
        InputError: the source does not exist, is not a supported backbone, or has fewer stages than levels
    """
    if source.startswith(RANDOM):
        # The rest of the model must draw the same initial weights as without a second encoder.
        with torch.random.fork_rng(devices=[]):
            return stand_in_second(source, levels)
    folder = Path(source).expanduser()
    if is_file(folder):
        raise InputError(f"backbone.second is a file, {source}: give a folder that transformers wrote, or a hub id")
    if not folder.is_dir():
        if folder.is_absolute() or source.count("/") != 1:
            raise InputError(
                f"no second encoder at {source}: set backbone.second to a hub id (owner/name), a folder that "
                f"transformers wrote, or one of {', '.join(RANDOM + name for name in _ARCHITECTURES)}"
            )
        folder = download(source, [""], TRANSFORMERS_STAGES, [_PROCESSOR])
    config = _with_stages(_read_config(folder), levels, str(folder))
    what, kind = f"the second encoder in {folder}", _network_class(config)
    with torch.random.fork_rng(devices=[]):
        network, missing = load_from_transformers(kind, folder, what, lambda: kind(config), config=config)
    # Norms that files of classifiers lack, because backbones add them to their outputs; they start as the identity.
    check_complete([name for name in missing if not name.startswith("hidden_states_norms.")], what)
    return ImageBackbone(source, _prepared(network), *_normalization(folder / _PROCESSOR))


def with_second(backbone: Backbone, source: str | None) -> Backbone:
    """A backbone with a second encoder; without a source, the backbone itself.

    Args:
        backbone: the backbone, with one level per block of its UNet
        source: as for `load_second`

    Raises:
        InputError: the second encoder cannot be loaded
    """
    if source is None:
        return backbone
    return replace(backbone, second=load_second(source, len(backbone.unet.config.block_out_channels)))


def build_second(network: Mapping[str, Any], *, source: str, mean: Any = _MEAN, std: Any = _STD) -> ImageBackbone:
    """Build an image backbone from its config, with random weights.

    Args:
        network: the config as `plain_config` returns it
        source: where its weights came from
        mean: as for `ImageBackbone`
        std: as for `ImageBackbone`

    Raises:
        InputError: the config names a type or sizes that cannot be built
    """
    check_sizes(network, "backbone.second.network")
    try:
        config = _config_of(network, "backbone.second.network")
        built = _network_class(config)(config)
    except InputError:
        raise
    except Exception as error:  # a wrong value can fail anywhere
        raise InputError(f"no second encoder can be built from backbone.second.network ({one_line(error)})") from error
    return ImageBackbone(source, _prepared(built.eval().requires_grad_(False)), tuple(mean), tuple(std))


def stand_in_second(source: str, levels: int) -> ImageBackbone:
    """A randomly initialized image backbone with the architecture of a source; nothing is downloaded.

    Raises:
        InputError: the architecture is unknown
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        config = _read_config(folder)
    else:
        name = source.removeprefix(RANDOM) if source.startswith(RANDOM) else _HUB_IDS.get(source)
        if name not in _ARCHITECTURES:
            raise InputError(
                f"the architecture of backbone.second {source} is unknown: give a folder, one of "
                f"{', '.join(_HUB_IDS)}, or one of {', '.join(RANDOM + each for each in _ARCHITECTURES)}"
            )
        config = _config_of(_ARCHITECTURES[name], source)
    return build_second(plain_config(_with_stages(config, levels, source)), source=source)


def plain_config(config: PreTrainedConfig) -> dict[str, Any]:
    """A backbone's architecture without the entries that all models of transformers have, as stored in config.json."""
    own = {key: value for key, value in config.to_dict().items() if key in _known_keys(config.model_type)}
    return {"model_type": config.model_type, **own, "out_indices": list(config.out_indices)}


def _known_keys(kind: str) -> set[str]:
    """The keys of a model type's config that describe its architecture."""
    return CONFIG_MAPPING[kind]().to_dict().keys() - PreTrainedConfig().to_dict().keys() - set(_DERIVED)


def _network_class(config: PreTrainedConfig) -> Any:
    return MODEL_FOR_BACKBONE_MAPPING[type(config)]


def _prepared(network: Any) -> Any:
    if network.config.model_type == "dinov3_vit":
        network.rope_embeddings = RotaryPositions(network.config)
    return network


def _read_config(folder: Path) -> PreTrainedConfig:
    path = folder / _CONFIG
    if not path.is_file():
        raise InputError(f"{folder} is not a transformers folder: it lacks {_CONFIG}")
    values = read_json(path)
    if not isinstance(values, dict):
        raise InputError(f"{path} is not the config of a model; expected one that transformers wrote")
    return _config_of({key: value for key, value in values.items() if key != "out_indices"}, str(path))


def _config_of(values: Mapping[str, Any], where: str) -> PreTrainedConfig:
    kind = values.get("model_type")
    if kind not in FAMILIES:
        raise InputError(
            f"{where} describes a model of type {kind}; a second encoder is one of {', '.join(FAMILIES)}: choose "
            "another backbone.second"
        )
    own = {key: value for key, value in values.items() if key in {*_known_keys(kind), "out_indices"}}
    if "reshape_hidden_states" in own:
        # Otherwise the backbone would return tokens instead of maps.
        own["reshape_hidden_states"] = True
    try:
        check_sizes(own, "")
        config: PreTrainedConfig = CONFIG_MAPPING[kind](**own)
    except Exception as error:  # transformers checks types with errors of its own
        raise InputError(f"{where} is not a valid config of type {kind} ({one_line(error)})") from error
    if config.num_channels != 3 or not isinstance(getattr(config, "patch_size", 0), int):
        raise InputError(f"{where} describes a network that needs inputs other than RGB images and square patches")
    return config


def _with_stages(config: PreTrainedConfig, levels: int, where: str) -> Any:
    """Choose the stages evenly: of 12 layers and 4 levels, the 3rd, 6th, 9th and last."""
    stages = len(config.stage_names) - 1
    if stages < levels:
        raise InputError(f"{where} has {stages} stages, but the pyramid has {levels} levels: choose a deeper network")
    config.out_indices = [round((level + 1) * stages / levels) for level in range(levels)]
    return config


def _normalization(path: Path) -> tuple[Any, Any]:
    """Mean and standard deviation of the pixels, from the image processor's config, else those of ImageNet.

    Raises:
        InputError: the network expects pixels in a range other than [0, 1]
    """
    if not path.is_file():
        return _MEAN, _STD
    values = read_json(path)
    try:
        factor = values.get("rescale_factor", 1 / 255)
        if not values.get("do_rescale", True) or abs(factor * 255 - 1) > 1e-3:
            raise InputError(f"{path} does not scale pixels to [0, 1]; expected rescale_factor 1/255")
        if not values.get("do_normalize", True):
            return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        mean, std = (
            tuple(float(each) for each in values.get(key, default))
            for key, default in (("image_mean", _MEAN), ("image_std", _STD))
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} has no valid image_mean and image_std ({one_line(error)})") from error
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise InputError(f"{path} has image_mean {mean} and image_std {std}; expected three numbers, std above 0")
    return mean, std
