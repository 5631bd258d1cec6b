"""The frozen VAE encoder (paper section 3.1)."""

from typing import Self

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.func import functional_call


class LatentEncoder(nn.Module):
    """Picture to latent: the mode of the posterior, not scaled, never trained, never in the graph.

    The decoder is no part of it. The released code does not multiply by the VAE's scaling factor, and neither does
    this.

    On a CPU float32 pictures are encoded in double precision, unless ``precise`` is set to False: K steps of the UNet
    amplify the encoder's rounding a hundredfold, and it would be the largest part of the difference from the released
    code's numbers.

    Args:
        vae: its encoder and quantization layer are shared, not copied
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.encoder = vae.encoder
        self.quant_conv = vae.quant_conv
        self.stride: int = 2 ** (len(vae.config.block_out_channels) - 1)
        self.precise = True
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever the rest of the model does."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Encode RGB pictures.

        Args:
            images: (B, 3, H, W) in [0, 1]

        Returns:
            (B, 4, H // 8, W // 8); the number of channels and the stride are the VAE's
        """
        layers = nn.Sequential(self.encoder, self.quant_conv or nn.Identity())
        pixels = images * 2 - 1
        if self.precise and pixels.device.type == "cpu" and pixels.dtype == torch.float32:
            weights = {name: tensor.double() for name, tensor in layers.state_dict().items()}
            moments = functional_call(layers, weights, (pixels.double(),)).to(pixels.dtype)
        else:
            moments = layers(pixels)
        mean, _ = moments.chunk(2, dim=1)
        return mean  # type: ignore[no-any-return]
