"""Where a backbone comes from: the hub, a diffusers folder, a single file, or its bare architecture."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from metaprompts.backbone.ldm_config import unet_config_from_ldm, vae_config_from_ldm
from metaprompts.backbone.ldm_names import ldm_unet_name, ldm_vae_name
from metaprompts.errors import InputError
from metaprompts.weights import load_tensors, read_tensors

STABLE_DIFFUSION = "stable-diffusion-v1-5/stable-diffusion-v1-5"
RANDOM = "random:"

_LDM_UNET = "model.diffusion_model."
_LDM_VAE = "first_stage_model."
_HUB_FILES = [
    f"{part}/{name}" for part in ("unet", "vae") for name in ("config.json", "*.safetensors", "*.safetensors.index.json")
]


@dataclass(frozen=True)
class Backbone:
    """The two borrowed networks, as diffusers built them."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL


def load_backbone(source: str = STABLE_DIFFUSION) -> Backbone:
    """Load a backbone's weights in float32 on the CPU.

    Args:
        source: one of

            - a hub id such as "stable-diffusion-v1-5/stable-diffusion-v1-5"
            - a diffusers folder (with unet/ and vae/)
            - a .safetensors or .ckpt file in LDM names; read offline, widths come from its shapes
            - "random:sd15" or "random:micro": the architecture with random weights

    Raises:
        InputError: there is no such source, or it does not hold a Stable Diffusion model
    """
    if source.startswith(RANDOM):
        return build_backbone(**named_config(source.removeprefix(RANDOM)))
    path = Path(source).expanduser()
    if path.is_file():
        return _load_single_file(path)
    if path.is_dir():
        return _load_folder(path)
    if path.is_absolute() or source.count("/") != 1 or path.suffix in {".safetensors", ".ckpt", ".pt", ".pth"}:
        raise InputError(
            f"no backbone at {source}: give a hub id (owner/name), a diffusers folder, a .safetensors or .ckpt file, "
            f"or one of {', '.join(RANDOM + name for name in config_names())}"
        )
    return _load_folder(_download(source))


def build_backbone(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> Backbone:
    """Build a backbone from its two diffusers configs, with random weights.

    Args:
        unet: UNet2DConditionModel's config
        vae: AutoencoderKL's config

    Raises:
        InputError: a config names blocks or sizes that cannot be built
    """
    try:
        return Backbone(UNet2DConditionModel.from_config(dict(unet)), AutoencoderKL.from_config(dict(vae)))
    except (ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        raise InputError(f"the backbone's config cannot be built: {error}") from error


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A diffusers config without diffusers' private entries, as it goes into config.json."""
    return {key: value for key, value in config.items() if not key.startswith("_")}


def config_names() -> list[str]:
    """The architectures that ship with the package."""
    folder = resources.files("metaprompts.backbone") / "configs"
    return sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))


def named_config(name: str) -> dict[str, Any]:
    """The unet and vae configs of a shipped architecture.

    Raises:
        InputError: there is no such architecture
    """
    if name not in config_names():
        raise InputError(f"no architecture called {name!r}: choose one of {', '.join(config_names())}")
    text = (resources.files("metaprompts.backbone") / "configs" / f"{name}.json").read_text(encoding="utf-8")
    return json.loads(text)  # type: ignore[no-any-return]


def _load_folder(folder: Path) -> Backbone:
    missing = [part for part in ("unet", "vae") if not (folder / part / "config.json").is_file()]
    if missing:
        raise InputError(
            f"{folder} is no diffusers folder: it lacks {' and '.join(f'{part}/config.json' for part in missing)}"
        )
    try:
        unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32, local_files_only=True)
        vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(f"the weights in {folder} cannot be loaded: {' '.join(str(error).split())}") from error
    return Backbone(unet, vae)


def _download(source: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"cannot download {source} from the hub ({type(error).__name__}): check the name and the network, or give "
            "a diffusers folder or a single file that is on disk"
        ) from error


def _load_single_file(path: Path) -> Backbone:
    tensors = read_tensors(path)
    unet = _part(tensors, _LDM_UNET)
    vae = _part(tensors, _LDM_VAE)
    if not unet or not vae:
        raise InputError(f"{path} holds no Stable Diffusion model in LDM names ({_LDM_UNET}* and {_LDM_VAE}*)")
    unet_config, vae_config = unet_config_from_ldm(unet, path), vae_config_from_ldm(vae, path)
    with torch.device("meta"):
        backbone = build_backbone(unet_config, vae_config)
    _fill_unet(backbone.unet, unet, path)
    _fill_encoder(backbone.vae, vae, path)
    return backbone


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _fill_unet(unet: UNet2DConditionModel, tensors: Mapping[str, Tensor], path: Path) -> None:
    load_tensors(unet, tensors, origin=path, spell=ldm_unet_speller(unet.config))


def _fill_encoder(vae: AutoencoderKL, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Fill what the model uses; the decoder stays on the meta device, where it takes no memory."""
    encoder = torch.nn.ModuleDict({"encoder": vae.encoder, "quant_conv": vae.quant_conv})
    load_tensors(
        encoder,
        tensors,
        origin=path,
        spell=ldm_vae_name,
        unused=lambda name: name.startswith(("decoder.", "post_quant_conv.", "loss.")),
    )


def ldm_unet_speller(config: Mapping[str, Any]) -> Any:
    """A function that spells a UNet's diffusers names as LDM does, for the UNet of this config."""
    crossing = [index for index, kind in enumerate(config["up_block_types"]) if kind.startswith("CrossAttn")]

    def spell(name: str) -> str:
        return ldm_unet_name(name, layers_per_block=config["layers_per_block"], attention_blocks=crossing)

    return spell
