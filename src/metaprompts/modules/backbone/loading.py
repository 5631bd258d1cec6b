"""Load a backbone from the hub, a diffusers folder, a single file, or build it from its architecture."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

from metaprompts.embedded import BACKBONE, embedded_folder
from metaprompts.errors import InputError, one_line
from metaprompts.modules.backbone.ldm_config import configs_from_ldm
from metaprompts.modules.backbone.ldm_names import ldm_unet_name, ldm_vae_name
from metaprompts.modules.backbone.weight_files import check_finite, download, has_any, load_network, weight_patterns
from metaprompts.utils.files import is_file, read_json
from metaprompts.utils.fingerprint import named_tensors, tensors_fingerprint
from metaprompts.utils.tensor_files import load_tensors, read_tensors

if TYPE_CHECKING:
    from metaprompts.modules.backbone.second_encoder import ImageBackbone

STABLE_DIFFUSION = "stable-diffusion-v1-5/stable-diffusion-v1-5"
RANDOM = "random:"
ARCHITECTURES = {
    "CompVis/stable-diffusion-v1-4": "sd15",
    STABLE_DIFFUSION: "sd15",
    "stabilityai/stable-diffusion-2-base": "sd21",
    "stabilityai/stable-diffusion-2": "sd21",
    "stabilityai/stable-diffusion-2-1-base": "sd21",
    "stabilityai/stable-diffusion-2-1": "sd21",
    "stabilityai/stable-diffusion-xl-base-1.0": "sdxl",
    "stabilityai/sdxl-turbo": "sdxl",
}
"""Hub ids of the original models -> their architecture in configs/."""


_PARTS = ("unet", "vae")
# Number of values at each end of a tensor that enter the fingerprint, because reading a whole model takes long.
HASHED = 256
_LDM_UNET = "model.diffusion_model."
_LDM_VAE = "first_stage_model."
# Number of input channels of other Stable Diffusion UNets, which take more than the latent's 4.
_OTHER_INPUTS = {
    5: "a depth-to-image model",
    7: "an upscaling model",
    8: "an instruction-based editing model",
    9: "an inpainting model",
}
# A repository may hold the same weights in several precisions; half precision is used only if there is no other.
_FILE = "diffusion_pytorch_model"
_WEIGHTS, _PICKLED, _HALF_WEIGHTS, _HALF_PICKLED = (
    weight_patterns(_FILE, suffix, half=half) for half in (False, True) for suffix in ("safetensors", "bin")
)
# Size limits of a network, so that a small config cannot demand gigabytes or hours. Stable Diffusion XL has 1280
# channels, 2 layers per block, and 10 transformers per layer.
_LARGEST, _MOST_LEVELS = 65536, 8
_MOST = {
    "layers_per_block": 8,
    "transformer_layers_per_block": 16,
    "reverse_transformer_layers_per_block": 16,
    "num_hidden_layers": 64,
    "depths": 64,
}


@dataclass(frozen=True)
class Backbone:
    """The UNet and the VAE, as diffusers built them, and the image backbone of a second encoder, if there is one.

    Raises:
        InputError: UNet and VAE do not match, or the UNet needs more inputs than a latent and prompts
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    second: "ImageBackbone | None" = None

    def __post_init__(self) -> None:
        takes, gives = self.unet.config.in_channels, self.vae.config.latent_channels
        if takes != gives:
            other = _OTHER_INPUTS.get(takes)
            what = f"the UNet is that of {other}: it" if other else "the UNet"
            raise InputError(
                f"{what} takes {takes} channels, but the VAE outputs {gives}; choose a text-to-image model"
            )
        if self.unet.config.class_embed_type is not None or self.unet.config.num_class_embeds is not None:
            raise InputError("the UNet is class-conditional: choose a text-to-image model")


def load_backbone(source: str = STABLE_DIFFUSION) -> Backbone:
    """Load a backbone's weights in float32 on the CPU.

    Args:
        source: one of

            - a hub id, for example "stable-diffusion-v1-5/stable-diffusion-v1-5"; cached files need no network
            - a diffusers folder with unet/ and vae/, each with .safetensors or .bin weights (a single file, shards, or
              only an fp16 variant)
            - a .safetensors or .ckpt file with LDM names, read without network; widths come from its shapes. The
              averaged (EMA) copy of the weights and the text encoder are skipped.
            - "micro": the miniature Stable Diffusion inside this package
            - "random:sd15", "random:sd21", "random:sdxl" or "random:micro": the architecture with random weights

    Raises:
        InputError: the source does not exist, or is not a Stable Diffusion model
    """
    if source.startswith(RANDOM):
        return build_backbone(**named_config(source.removeprefix(RANDOM)))
    path = Path(source).expanduser()
    if source == BACKBONE and not path.exists():
        path = embedded_folder(BACKBONE)
    if is_file(path):
        return _load_single_file(path)
    if path.is_dir():
        return _load_folder(path)
    if path.is_absolute() or source.count("/") != 1 or path.suffix in {".safetensors", ".ckpt", ".pt", ".pth"}:
        raise InputError(
            f"no backbone at {source}: give a hub id (owner/name), a diffusers folder, a .safetensors or .ckpt file, "
            f"{BACKBONE}, or one of {', '.join(RANDOM + name for name in config_names())}"
        )
    stages = (_WEIGHTS, _HALF_WEIGHTS, _PICKLED, _HALF_PICKLED)
    return _load_folder(download(source, [f"{part}/" for part in _PARTS], stages))


def build_backbone(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> Backbone:
    """Build a backbone from its two diffusers configs, with random weights.

    Args:
        unet: UNet2DConditionModel's config
        vae: AutoencoderKL's config

    Raises:
        InputError: a config names blocks or sizes that cannot be built
    """
    check_sizes(unet, "backbone.unet")
    check_sizes(vae, "backbone.vae")
    try:
        networks = UNet2DConditionModel.from_config(dict(unet)), AutoencoderKL.from_config(dict(vae))
    except Exception as error:  # diffusers does not validate its configs: a wrong value can fail anywhere
        raise InputError(
            f"no backbone can be built from this config ({type(error).__name__}: {one_line(error)}): check "
            "backbone.unet and .vae"
        ) from error
    return Backbone(*networks)


def check_sizes(config: Any, where: str) -> None:
    """Check that the numbers of a diffusers config are plausible sizes of a network.

    Args:
        config: the config, or a value in it
        where: dotted name of the config or value, for errors

    Raises:
        InputError: a number is negative or too large, or a list is too long
    """
    if isinstance(config, Mapping):
        for key, value in config.items():
            check_sizes(value, f"{where}.{key}")
    elif isinstance(config, list | tuple):
        if len(config) > _MOST_LEVELS:
            raise InputError(f"{where} has {len(config)} entries; expected at most {_MOST_LEVELS}")
        for value in config:
            check_sizes(value, where)
    elif isinstance(config, int) and not isinstance(config, bool):
        most = _MOST.get(where.rpartition(".")[2], _LARGEST)
        if not 0 <= config <= most:
            raise InputError(f"{where} is {str(config)[:20]}; expected 0 to {most}")


def with_random_unet(backbone: Backbone) -> Backbone:
    """The backbone's VAE with a randomly initialized UNet of the same shape."""
    return replace(backbone, unet=UNet2DConditionModel.from_config(backbone.unet.config))


def backbone_fingerprint(backbone: Backbone) -> str:
    """A fingerprint of a backbone's weights: every tensor's name, shape, and first and last values."""
    of_vae = named_tensors("encoder", backbone.vae.encoder) + named_tensors("quant_conv", backbone.vae.quant_conv)
    return tensors_fingerprint(named_tensors("unet", backbone.unet) + of_vae, ends=HASHED)


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A diffusers config without diffusers' private entries, as stored in config.json."""
    return {key: value for key, value in config.items() if not key.startswith("_")}


def config_names() -> list[str]:
    """The architectures that ship with the package."""
    folder = resources.files("metaprompts.modules.backbone") / "configs"
    return sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))


def named_config(name: str) -> dict[str, Any]:
    """The unet and vae configs of a shipped architecture.

    Raises:
        InputError: the architecture does not exist
    """
    if name not in config_names():
        raise InputError(f"no architecture named {name!r}: choose one of {', '.join(config_names())}")
    text = (resources.files("metaprompts.modules.backbone") / "configs" / f"{name}.json").read_text(encoding="utf-8")
    # The miniature also has a text encoder, which perception does not use.
    return {part: config for part, config in json.loads(text).items() if part in _PARTS}


def _load_folder(folder: Path) -> Backbone:
    missing = [f"{part}/config.json" for part in _PARTS if not (folder / part / "config.json").is_file()]
    if missing:
        raise InputError(f"{folder} is not a diffusers folder: it lacks {' and '.join(missing)}")
    return Backbone(_load_part(UNet2DConditionModel, folder / "unet"), _load_part(AutoencoderKL, folder / "vae"))


def _load_part(kind: Any, folder: Path) -> Any:
    # Full precision is preferred.
    variants = (_WEIGHTS, _PICKLED, _HALF_WEIGHTS, _HALF_PICKLED)
    found = next((weights for weights in variants if has_any(folder, weights)), _WEIGHTS)
    is_pickled = found in (_PICKLED, _HALF_PICKLED)
    config = read_json(folder / "config.json")
    try:
        check_sizes(config, "")
    except InputError as error:
        raise InputError(f"{folder / 'config.json'}: {error}") from error
    network, report = load_network(
        kind,
        folder,
        f"the weights in {folder}",
        partial(kind.from_config, config),
        half=found in (_HALF_WEIGHTS, _HALF_PICKLED),
        files=f"{_FILE}*{'.bin' if is_pickled else '.safetensors'}",
        torch_dtype=torch.float32,
        use_safetensors=not is_pickled,
    )
    # diffusers only warns about these problems, and leaves missing weights random.
    problems = [
        f"{len(report[key])} {what}: {', '.join(sorted(map(str, report[key])))}"
        for key, what in (("missing_keys", "missing"), ("unexpected_keys", "unexpected"))
        if report[key]
    ]
    if problems:
        raise InputError(f"the weights in {folder} do not fit its config.json: {'; '.join(problems)}")
    check_finite(network, folder)
    return network


def _load_single_file(path: Path) -> Backbone:
    tensors = read_tensors(path)
    unet, vae = with_prefix(tensors, _LDM_UNET), with_prefix(tensors, _LDM_VAE)
    if not unet or not vae:
        raise InputError(
            f"{path} has no Stable Diffusion model under LDM names: expected tensors named {_LDM_UNET}* and "
            f"{_LDM_VAE}*, found {len(unet)} and {len(vae)} of them among {len(tensors)}"
        )
    taken = unet.get("input_blocks.0.0.weight")
    if taken is not None and taken.ndim == 4 and taken.shape[1] in _OTHER_INPUTS:
        raise InputError(
            f"{path} is {_OTHER_INPUTS[taken.shape[1]]}: its UNet takes {taken.shape[1]} channels; choose a "
            "text-to-image model"
        )
    try:
        with torch.device("meta"):
            backbone = build_backbone(**configs_from_ldm(unet, vae, path))
    except InputError as error:
        raise InputError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from error
    used = {name: tensor for name, tensor in tensors.items() if name.startswith((_LDM_UNET, _LDM_VAE))}
    _fill(backbone, used, path)
    return backbone


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with a prefix, without the prefix."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _fill(backbone: Backbone, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load the tensors that the model uses; the VAE's decoder stays on the meta device, where it takes no memory."""
    encoder = nn.ModuleDict({"encoder": backbone.vae.encoder, "quant_conv": backbone.vae.quant_conv})

    def rename_key(name: str) -> str:
        part, rest = name.split(".", 1)
        if part == "unet":
            return _LDM_UNET + ldm_unet_name(rest, backbone.unet.config)
        return _LDM_VAE + ldm_vae_name(rest)

    # Stable Diffusion XL adds an embedding of pooled text and sizes to that of time, which is not used here.
    idle = (_LDM_UNET + "label_emb.0.", *(_LDM_VAE + part for part in ("decoder.", "post_quant_conv.", "loss.")))
    load_tensors(
        nn.ModuleDict({"unet": backbone.unet, "vae": encoder}),
        tensors,
        origin=path,
        rename_key=rename_key,
        unused=lambda name: name.startswith(idle),
    )
