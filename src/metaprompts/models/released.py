"""Import the authors' released checkpoints."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaprompts.data.class_names import ADE20K, CITYSCAPES
from metaprompts.errors import InputError, one_line
from metaprompts.models.config import Architecture, ModelConfig, Prompts, Refinement
from metaprompts.models.model import MetaPromptModel
from metaprompts.modules.backbone.ldm_config import configs_from_ldm, dimension
from metaprompts.modules.backbone.ldm_names import ldm_unet_name, ldm_vae_name
from metaprompts.modules.backbone.loading import with_prefix
from metaprompts.tasks import Depth, Segmentation, Task
from metaprompts.utils.tensor_files import load_tensors, read_tensors, state_dict_in

PRESETS = ("nyu", "kitti", "ade20k", "cityscapes")

_DEPTH_PRESETS = ("nyu", "kitti")
_WORKING_SIZES = {"nyu": (480, 640), "kitti": (352, 1216), "ade20k": (512, 512), "cityscapes": (1024, 2048)}
_CLASSES = {"ade20k": ADE20K, "cityscapes": CITYSCAPES}
_UNET = "unet.unet.diffusion_model."
_VAE = "encoder_vq."
_DEPTH_PREFIX = "encoder."
# Kinds of files, by the prefix of the UNet's tensors.
_KINDS = {
    _DEPTH_PREFIX + _UNET: "a released depth checkpoint: choose the preset nyu or kitti",
    _UNET: "a released segmentation checkpoint: choose the preset ade20k or cityscapes",
    "model.diffusion_model.": "a Stable Diffusion checkpoint: train on it as a backbone",
    "latent_encoder.": "a model of this package: use metaprompts.load",
    "down_blocks.": "a diffusers UNet: train on its model as a backbone",
}
# Tensors in the files that are not used: noise schedule, VAE decoder, and the time MLP that the method replaces.
_UNUSED = re.compile(
    r"sd_model\..*|(encoder\.)?(encoder_vq\.post_quant_conv\..*|unet\.unet\.diffusion_model\.time_embed\..*)"
)

# The tensors of the output layer, and of a prompt adapter.
_PARTS = ("0.weight", "0.bias", "2.weight", "2.bias")

# Our name -> the released name, as patterns; \1 and so on are numbers, and {+1} adds one to the first number.
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
    """Load a checkpoint of the authors' released code; the model gives the same outputs.

    Widths and the numbers of prompts, steps and classes are read from the shapes. The model shares memory with the
    file, so do not change the file while the model is in use; `MetaPromptModel.save` writes a separate file.

    Args:
        source: a .pth, .ckpt or .safetensors file, or its content
        preset: "nyu", "kitti", "ade20k" or "cityscapes": the checkpoint's data set

    Returns:
        the model in evaluation mode, on the CPU

    Raises:
        InputError: the preset is unknown, or tensors are missing, unexpected or mis-shaped, or the copies of the tied
            output layer differ: the message names all of them
    """
    if preset not in PRESETS:
        raise InputError(f"no preset named {preset!r}: choose one of {', '.join(PRESETS)}")
    if isinstance(source, Mapping):
        origin, tensors = "the state dict", state_dict_in(source, "the state dict")
    else:
        origin, tensors = str(source), read_tensors(Path(source).expanduser())
    tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    config = _config(tensors, preset, origin)
    aliases = _aliases(preset, config.refinement.steps)
    _check_aliases(tensors, aliases, origin)

    try:
        model = MetaPromptModel.from_config(config)
    except Exception as error:  # PyTorch raises its own errors for invalid sizes, anywhere while building layers
        raise InputError(
            f"{origin} is not a released checkpoint for {preset}: its shapes match no model ({one_line(error)})"
        ) from error
    load_tensors(
        model,
        tensors,
        origin=origin,
        rename_key=_released_renamer(config, preset),
        unused=lambda name: name in aliases or _UNUSED.fullmatch(name) is not None or _is_idle_output(name, config),
        required=aliases,
    )
    return model.eval()


def _config(tensors: Mapping[str, Tensor], preset: str, origin: str) -> ModelConfig:
    _check_kind(tensors, preset, origin)
    is_depth, prefix = preset in _DEPTH_PRESETS, _prefix(preset)
    configs = configs_from_ldm(with_prefix(tensors, prefix + _UNET), with_prefix(tensors, prefix + _VAE), origin)
    steps = _steps(tensors, preset)
    try:
        task, count = _depth(tensors, preset, steps) if is_depth else _segmentation(tensors, preset)
        prompts, refinement = Prompts(count=count, per_step=is_depth, adapter=is_depth), Refinement(steps=steps)
    except KeyError as error:
        raise InputError(f"{origin} is not a released checkpoint for {preset}: it has no tensor {error}") from error
    except InputError as error:
        raise InputError(f"{origin} is not a released checkpoint for {preset}: {error}") from error
    return ModelConfig(
        task=task,
        backbone=Architecture(unet=configs["unet"], vae=configs["vae"]),
        prompts=prompts,
        refinement=refinement,
        working_size=_WORKING_SIZES[preset],
    )


def _prefix(preset: str) -> str:
    return _DEPTH_PREFIX if preset in _DEPTH_PRESETS else ""


def _check_kind(tensors: Mapping[str, Tensor], preset: str, origin: str) -> None:
    prefix = _prefix(preset) + _UNET
    if any(name.startswith(prefix) for name in tensors):
        return
    for start, kind in _KINDS.items():
        if any(name.startswith(start) for name in tensors):
            raise InputError(f"{origin} is not a released checkpoint for {preset} but {kind}")
    first = ", ".join(sorted(tensors)[:3])
    raise InputError(
        f"{origin} is not a released checkpoint: expected tensors named {prefix}*, found {len(tensors)} others "
        f"({first})"
    )


def _depth(tensors: Mapping[str, Tensor], preset: str, steps: int) -> tuple[Task, int]:
    enlarging, convolving = "decoder.deconv_layers", "decoder.conv_layers"
    task = Depth(
        max_depth_m=10.0 if preset == "nyu" else 80.0,
        mask_out_of_range=False,
        margin_blocks=1 if preset == "nyu" else 2,
        focal_px=518.8579 if preset == "nyu" else 721.5377,
        filters=dimension(
            tensors,
            *((f"{enlarging}.{layer}.weight", 1) for layer in (0, 3, 6)),
            *((f"{enlarging}.{layer}.weight", 0) for layer in (1, 3, 4, 6, 7)),
        ),
        width=dimension(
            tensors,
            *((f"{convolving}.{name}", 0) for name in ("0.weight", "0.bias", "1.weight", "1.bias")),
            ("last_layer_depth.0.weight", 0),
        ),
    )
    sets = ((f"encoder.meta_prompts{step}", 0) for step in range(1, steps + 1))
    return task, dimension(tensors, *sets, (f"{enlarging}.0.weight", 0))


def _segmentation(tensors: Mapping[str, Tensor], preset: str) -> tuple[Task, int]:
    convolutions = [
        *(f"decode_head.lateral_convs.{level}" for level in range(3)),
        *(f"decode_head.psp_modules.{scale}.1" for scale in range(4)),
        "auxiliary_head.convs.0",
    ]
    classifiers = [
        (f"{head}.conv_seg.{part}", 0) for head in ("decode_head", "auxiliary_head") for part in ("weight", "bias")
    ]
    task = Segmentation(
        classes=_class_names(dimension(tensors, *classifiers), preset),
        width=dimension(
            tensors, ("decode_head.conv_seg.weight", 1), *((f"{name}.conv.weight", 0) for name in convolutions)
        ),
        dropout=0.0 if preset == "ade20k" else 0.1,
    )
    return task, dimension(tensors, ("meta_prompts", 0), *((f"{name}.conv.weight", 1) for name in convolutions))


def _class_names(classes: int, preset: str) -> tuple[str, ...]:
    names = _CLASSES[preset]
    if classes == len(names):
        return names
    for other, others in _CLASSES.items():
        if classes == len(others):
            raise InputError(
                f"the checkpoint has {classes} classes, but preset {preset} has {len(names)}: choose {other}"
            )
    return tuple(f"class {index}" for index in range(classes))


def _steps(tensors: Mapping[str, Tensor], preset: str) -> int:
    """The number of steps, K, whose tensor names differ least from those in the file."""
    prefix = _prefix(preset)
    number = r"\d{1,6}"
    pattern = re.compile(
        re.escape(prefix) + rf"(t{number}|meta_prompts{number}|text_adapter{number}\..*|cross_unet_conv{number}\..*)"
    )
    found = {name for name in tensors if pattern.fullmatch(name)}

    def expected(steps: int) -> set[str]:
        names = {f"t{step}" for step in range(1, steps + 1)}
        names |= {f"cross_unet_conv{step}.{part}" for step in range(2, steps + 1) for part in _PARTS}
        if preset in _DEPTH_PRESETS:
            names |= {f"meta_prompts{step}" for step in range(1, steps + 1)}
            names |= {f"text_adapter{step}.fc.{part}" for step in range(1, steps + 1) for part in _PARTS}
        return {prefix + name for name in names}

    most = max(
        (int(number) for name in found for number in re.findall(r"\d+", name.removeprefix(prefix))[:1]), default=1
    )
    # Each step adds at least one name, so more steps than names always differ more.
    return min(range(1, max(min(most, len(found)), 1) + 1), key=lambda steps: (len(found ^ expected(steps)), -steps))


def _released_renamer(config: ModelConfig, preset: str) -> Callable[[str], str]:
    prefix = _prefix(preset)
    patterns = _DEPTH_NAMES if preset in _DEPTH_PRESETS else _SEGMENTATION_NAMES

    def rename_key(name: str) -> str:
        if name.startswith("unet."):
            return prefix + _UNET + ldm_unet_name(name.removeprefix("unet."), config.backbone.unet)
        if name.startswith("latent_encoder."):
            return prefix + _VAE + ldm_vae_name(name.removeprefix("latent_encoder."))
        for ours, theirs in patterns:
            if found := re.fullmatch(ours, name):
                numbered = theirs.replace("{+1}", str(int(found[1]) + 1)) if "{+1}" in theirs else theirs
                return found.expand(numbered)
        raise AssertionError(f"no released name for {name}")

    return rename_key


def _aliases(preset: str, steps: int) -> dict[str, str]:
    """The other names of the tied output layer, one for each step except the first -> its own name."""
    prefix = _prefix(preset)
    return {
        f"{prefix}cross_unet_conv{step}.{part}": f"{prefix}{_UNET}out.{part}"
        for step in range(2, steps + 1)
        for part in _PARTS
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
    """Whether a tensor belongs to the UNet's output layer, which is never used if there is only one refinement step."""
    return config.refinement.steps == 1 and f"{_UNET}out." in name
