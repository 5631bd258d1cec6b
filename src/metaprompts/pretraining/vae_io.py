"""Convert stored images to VAE inputs, and back."""

from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor


def to_pixels(images: NDArray[np.uint8]) -> Tensor:
    """(B, H, W, 3) in 0..255 -> (B, 3, H, W) in [-1, 1], channels last in memory."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(pixels: Tensor) -> NDArray[np.uint8]:
    """(B, 3, H, W) in [-1, 1] -> (B, H, W, 3) in 0..255."""
    scaled = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().numpy()


@torch.inference_mode()
def encode(vae: AutoencoderKL, images: NDArray[np.uint8]) -> Tensor:
    """Images (B, H, W, 3) in 0..255 -> the posterior's mean (B, C, H / 8, W / 8)."""
    posterior: Any = vae.encode(to_pixels(images)).latent_dist
    return posterior.mode()  # type: ignore[no-any-return]


@torch.inference_mode()
def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Latents (B, C, h, w) -> images (B, 3, 8 h, 8 w) in [-1, 1], except for overshoot."""
    return vae.decode(latents).sample  # type: ignore[no-any-return]
