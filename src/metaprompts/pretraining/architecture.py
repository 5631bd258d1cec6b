"""The sizes of the networks: the shipped miniature, or a custom JSON file."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from metaprompts.errors import InputError
from metaprompts.utils.files import read_json

_PARTS = ("unet", "vae", "text_encoder")


@dataclass(frozen=True)
class Architecture:
    """Configs of the three networks, in the format of diffusers and transformers.

    Attributes:
        unet: config of UNet2DConditionModel
        vae: config of AutoencoderKL
        text_encoder: CLIPTextConfig, without the values that the tokenizer determines

    Raises:
        InputError: the parts are incompatible
    """

    unet: dict[str, Any]
    vae: dict[str, Any]
    text_encoder: dict[str, Any]

    def __post_init__(self) -> None:
        for (taker, needs), (giver, gives) in (
            (("unet", "in_channels"), ("vae", "latent_channels")),
            (("unet", "out_channels"), ("vae", "latent_channels")),
            (("unet", "cross_attention_dim"), ("text_encoder", "hidden_size")),
        ):
            expected, given = getattr(self, taker).get(needs), getattr(self, giver).get(gives)
            if expected is None or expected != given:
                raise InputError(
                    f"architecture: {taker}.{needs} is {expected}, but {giver}.{gives} is {given}: make them equal"
                )


def read_architecture(path: Path | None) -> Architecture:
    """Read an architecture.

    Args:
        path: a JSON file with "unet", "vae" and "text_encoder"; None for the miniature

    Raises:
        InputError: the file is missing, is not JSON, or lacks a part
    """
    if path is None:
        path = Path(str(resources.files("metaprompts.modules.backbone") / "configs" / "micro.json"))
    values = read_json(path)
    if not isinstance(values, dict) or sorted(values) != sorted(_PARTS):
        raise InputError(f"{path} is not an architecture: expected a JSON object of {', '.join(_PARTS)}")
    return Architecture(**values)
