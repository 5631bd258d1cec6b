"""UNet and text encoder, which are trained together, their sizes, and the pipeline that samples from them."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from metaprompts.errors import InputError
from metaprompts.utils.files import read_json

# Stable Diffusion's noise schedule, but with zero signal at the end, so that sampling starts from what training has
# seen (Lin et al., 2024). A small network learns the layout of images sooner by predicting velocity than noise.
NOISE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "rescale_betas_zero_snr": True,
    "prediction_type": "v_prediction",
}


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


class TextToImageModel(nn.Module):
    """A UNet and its text encoder.

    Args:
        unet: predicts velocity
        text_encoder: encodes captions
    """

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def forward(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """Predict the velocity.

        Args:
            noisy: (B, C, h, w)
            timesteps: (B,) in 0..999
            tokens: (B, L), padded

        Returns:
            (B, C, h, w)
        """
        # As in Stable Diffusion, padding is not masked.
        words = self.text_encoder(input_ids=tokens).last_hidden_state
        return self.unet(noisy, timesteps, encoder_hidden_states=words).sample  # type: ignore[no-any-return]

    def save(self, folder: Path) -> None:
        """Write unet/ and text_encoder/."""
        self.unet.save_pretrained(folder / "unet")
        self.text_encoder.save_pretrained(folder / "text_encoder")

    @classmethod
    def read(cls, folder: Path) -> "TextToImageModel":
        """Load saved networks, in single precision.

        Raises:
            InputError: the folder has no networks
        """
        if not folder.is_dir():
            raise InputError(f"no UNet in {folder}: run stage diffusion first")
        unet = UNet2DConditionModel.from_pretrained(folder / "unet")
        return cls(unet, CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32))


def build_text_to_image(architecture: Architecture, tokenizer: CLIPTokenizer) -> TextToImageModel:
    """Build both networks with random weights; the tokenizer determines vocabulary size and maximum caption length."""
    config = CLIPTextConfig(
        **architecture.text_encoder,
        vocab_size=len(tokenizer),
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return TextToImageModel(UNet2DConditionModel.from_config(architecture.unet), CLIPTextModel(config))


def make_pipeline(
    text_to_image: TextToImageModel, vae: AutoencoderKL, tokenizer: CLIPTokenizer
) -> StableDiffusionPipeline:
    """Assemble the pipeline; its parts are shared, not copied."""
    scheduler = DDIMScheduler(**NOISE, set_alpha_to_one=False, steps_offset=1, timestep_spacing="trailing")
    parts: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_to_image.text_encoder,
        tokenizer=tokenizer,
        unet=text_to_image.unet,
        scheduler=scheduler,
        **parts,
    )
