"""The authors' released checkpoints as models of this package."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaprompts.backbone.ldm_config import dimension, unet_config_from_ldm, vae_config_from_ldm
from metaprompts.backbone.ldm_names import ldm_vae_name
from metaprompts.backbone.sources import ldm_unet_speller
from metaprompts.classes import ADE20K, CITYSCAPES
from metaprompts.config import Architecture, ModelConfig, Prompts, Refinement
from metaprompts.errors import InputError
from metaprompts.model import MetaPromptModel
from metaprompts.tasks import Depth, Segmentation, Task
from metaprompts.weights import load_tensors, read_tensors, state_dict_in

PRESETS = ("nyu", "kitti", "ade20k", "cityscapes")

_WORKING_SIZES = {"nyu": (480, 640), "kitti": (352, 1216), "ade20k": (512, 512), "cityscapes": (1024, 2048)}
_UNET = "unet.unet.diffusion_model."
_VAE = "encoder_vq."
# In the files but of no use: the noise schedule, the decoder's side of the VAE, the time MLP that the method replaces.
_UNUSED = re.compile(r"sd_model\..*|(encoder\.)?(encoder_vq\.post_quant_conv\..*|unet\.unet\.diffusion_model\.time_embed\..*)")

# Our name -> the released one, as patterns; \1 and so on are numbers, and {+1} adds one to the first of them.
_DEPTH_NAMES = (
    (r"prompts\.sets\.(\d+)", r"encoder.meta_prompts{+1}"),
    (r"prompts\.adapters\.(\d+)\.(.+)", r"encoder.text_adapter{+1}.fc.\2"),
    (r"refinement\.time\.(\d+)", r"encoder.t{+1}"),
    (r"rearrangement\.levels\.0\.(.+)", r"encoder.layer1.\1"),
    (r"rearrangement\.levels\.(\d+)\.0\.(.+)", r"encoder.layer{+1}.deconv_layers.\2"),
    (r"rearrangement\.levels\.(\d+)\.1\.(.+)", r"encoder.layer{+1}.conv_layers.0.\2"),
    (r"rearrangement\.levels\.(\d+)\.2\.(.+)", r"encoder.layer{+1}.conv_layers.1.\2"),
    (r"rearrangement\.join\.(.+)", r"encoder.out_layer.\1"),
    (r"head\.enlarge\.(.+)", r"decoder.deconv_layers.\1"),
    (r"head\.convolve\.(.+)", r"decoder.conv_layers.\1"),
    (r"head\.regress\.(.+)", r"last_layer_depth.\1"),
)
_SEGMENTATION_NAMES = (
    (r"prompts\.sets\.0", r"meta_prompts"),
    (r"refinement\.time\.(\d+)", r"t{+1}"),
    (r"rearrangement\.projections\.(\d+)\.(.+)", r"upconv{+1}.\2"),
    (r"head\.pooling\.(\d+)\.1\.0\.(.+)", r"decode_head.psp_modules.\1.1.conv.\2"),
    (r"head\.pooling\.(\d+)\.1\.1\.(.+)", r"decode_head.psp_modules.\1.1.bn.\2"),
    (r"head\.bottleneck\.0\.(.+)", r"decode_head.bottleneck.conv.\1"),
    (r"head\.bottleneck\.1\.(.+)", r"decode_head.bottleneck.bn.\1"),
    (r"head\.laterals\.(\d+)\.0\.(.+)", r"decode_head.lateral_convs.\1.conv.\2"),
    (r"head\.laterals\.(\d+)\.1\.(.+)", r"decode_head.lateral_convs.\1.bn.\2"),
    (r"head\.smooth\.(\d+)\.0\.(.+)", r"decode_head.fpn_convs.\1.conv.\2"),
    (r"head\.smooth\.(\d+)\.1\.(.+)", r"decode_head.fpn_convs.\1.bn.\2"),
    (r"head\.fuse\.0\.(.+)", r"decode_head.fpn_bottleneck.conv.\1"),
    (r"head\.fuse\.1\.(.+)", r"decode_head.fpn_bottleneck.bn.\1"),
    (r"head\.classify\.(.+)", r"decode_head.conv_seg.\1"),
    (r"auxiliary_head\.convolve\.0\.(.+)", r"auxiliary_head.convs.0.conv.\1"),
    (r"auxiliary_head\.convolve\.1\.(.+)", r"auxiliary_head.convs.0.bn.\1"),
    (r"auxiliary_head\.classify\.(.+)", r"auxiliary_head.conv_seg.\1"),
)


def import_released(source: str | Path | Mapping[str, Any], preset: str) -> MetaPromptModel:
    """Load a checkpoint of the authors' released code; with the same weights it gives the same numbers.

    Widths, the number of prompts, steps and classes are read from the shapes. The model shares memory with the file,
    so leave the file as it is while the model is in use; `MetaPromptModel.save` makes a file of our own.

    Args:
        source: a .pth, .ckpt or .safetensors file, or its content
        preset: "nyu", "kitti", "ade20k" or "cityscapes": what the checkpoint was trained on

    Returns:
        the model in evaluation mode, on the CPU

    Raises:
        InputError: an unknown preset, or a file that lacks a tensor, holds a foreign one or one of another shape, or
            copies of the tied output layer that differ: all of them are named
    """
    if preset not in PRESETS:
        raise InputError(f"no preset called {preset!r}: choose one of {', '.join(PRESETS)}")
    if isinstance(source, Mapping):
        origin, tensors = "the state dict", state_dict_in(source, "the state dict")
    else:
        origin, tensors = str(source), read_tensors(Path(source))
    tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    is_depth = preset in ("nyu", "kitti")
    prefix = "encoder." if is_depth else ""
    config = _config(tensors, preset, prefix, origin)
    aliases = _aliases(prefix, config.refinement.steps)
    _check_aliases(tensors, aliases, origin)

    model = MetaPromptModel.empty(config)
    load_tensors(
        model,
        tensors,
        origin=origin,
        spell=_speller(config, prefix, _DEPTH_NAMES if is_depth else _SEGMENTATION_NAMES),
        unused=lambda name: name in aliases or _UNUSED.fullmatch(name) is not None or _is_idle_output(name, config),
        required=aliases,
    )
    return model.eval()


def _config(tensors: Mapping[str, Tensor], preset: str, prefix: str, origin: str) -> ModelConfig:
    backbone = Architecture(
        unet=unet_config_from_ldm(_part(tensors, prefix + _UNET), origin),
        vae=vae_config_from_ldm(_part(tensors, prefix + _VAE), origin),
    )
    try:
        task, count = _depth(tensors, preset) if prefix else _segmentation(tensors, preset)
    except KeyError as error:
        kind = "depth" if prefix else "segmentation"
        raise InputError(f"{origin} is no released {kind} checkpoint: it has no tensor {error}") from error
    steps = max((int(found[1]) for name in tensors if (found := re.fullmatch(re.escape(prefix) + r"t(\d+)", name))), default=1)
    return ModelConfig(
        task=task,
        backbone=backbone,
        prompts=Prompts(count=count, per_step=bool(prefix), adapter=bool(prefix)),
        refinement=Refinement(steps=steps),
        working_size=_WORKING_SIZES[preset],
    )


def _depth(tensors: Mapping[str, Tensor], preset: str) -> tuple[Task, int]:
    task = Depth(
        max_depth_m=10.0 if preset == "nyu" else 80.0,
        margin_blocks=1 if preset == "nyu" else 2,
        filters=dimension(tensors, ("decoder.deconv_layers.0.weight", 1), ("decoder.deconv_layers.1.weight", 0)),
        width=dimension(tensors, ("decoder.conv_layers.0.weight", 0), ("decoder.conv_layers.1.weight", 0)),
    )
    return task, dimension(tensors, ("encoder.meta_prompts1", 0), ("decoder.deconv_layers.0.weight", 0))


def _segmentation(tensors: Mapping[str, Tensor], preset: str) -> tuple[Task, int]:
    names = ADE20K if preset == "ade20k" else CITYSCAPES
    classes = dimension(tensors, ("decode_head.conv_seg.weight", 0), ("decode_head.conv_seg.bias", 0))
    task = Segmentation(
        classes=names if classes == len(names) else tuple(f"class {index}" for index in range(classes)),
        width=dimension(tensors, ("decode_head.conv_seg.weight", 1), ("decode_head.fpn_bottleneck.bn.weight", 0)),
        dropout=0.0 if preset == "ade20k" else 0.1,
    )
    return task, dimension(tensors, ("meta_prompts", 0), ("decode_head.lateral_convs.0.conv.weight", 1))


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _speller(config: ModelConfig, prefix: str, patterns: tuple[tuple[str, str], ...]) -> Any:
    spell_unet = ldm_unet_speller(config.backbone.unet)

    def spell(name: str) -> str:
        if name.startswith("unet."):
            return prefix + _UNET + str(spell_unet(name.removeprefix("unet.")))
        if name.startswith("latent_encoder."):
            return prefix + _VAE + ldm_vae_name(name.removeprefix("latent_encoder."))
        for ours, theirs in patterns:
            if found := re.fullmatch(ours, name):
                numbered = theirs.replace("{+1}", str(int(found[1]) + 1)) if "{+1}" in theirs else theirs
                return found.expand(numbered)
        raise AssertionError(f"no released name for {name}")

    return spell


def _aliases(prefix: str, steps: int) -> dict[str, str]:
    """The other names of the tied output layer -> its own name: one for each step but the first."""
    return {
        f"{prefix}cross_unet_conv{step}.{part}": f"{prefix}{_UNET}out.{part}"
        for step in range(2, steps + 1)
        for part in ("0.weight", "0.bias", "2.weight", "2.bias")
    }


def _check_aliases(tensors: Mapping[str, Tensor], aliases: Mapping[str, str], origin: str) -> None:
    differing = [
        f"{alias} and {name}"
        for alias, name in aliases.items()
        if alias in tensors and name in tensors and not torch.equal(tensors[alias], tensors[name])
    ]
    if differing:
        raise InputError(f"{origin} holds different values for one tied layer: {', '.join(differing)}")


def _is_idle_output(name: str, config: ModelConfig) -> bool:
    """With one step the output layer of the file was never used."""
    return config.refinement.steps == 1 and f"{_UNET}out." in name
