"""The frozen VAE encoder (paper section 3.1)."""

from typing import Self

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.func import functional_call

from metaprompts.modules.backbone.encoder_cache import EncoderCache
from metaprompts.modules.backbone.tiled_vae import StripEncoder
from metaprompts.utils.fingerprint import named_tensors


class LatentEncoder(nn.Module):
    """Encodes images as latents, the mode of the posterior; never trained, and never part of the graph.

    The decoder is not included. The released code does not multiply by the VAE's scaling factor, and neither does
    this class by default.

    On a CPU, float32 images are encoded in double precision unless ``precise`` is set to False: K steps of the UNet
    amplify the encoder's rounding errors a hundredfold, which would make these the largest part of the difference from
    the released code's numbers.

    Args:
        vae: the VAE, whose encoder and quantization layer are shared, not copied
        scaled: whether to multiply by the scaling factor, as in the UNet's own training

    Attributes:
        precise: whether to encode float32 images in double precision on a CPU
        rows: height of the strips in which images are encoded, see `StripEncoder`; None for whole images
        cache: cache of unscaled latents by image; None to encode every image
    """

    def __init__(self, vae: AutoencoderKL, *, scaled: bool = False) -> None:
        super().__init__()
        self.encoder = vae.encoder
        self.quant_conv = vae.quant_conv
        self.stride: int = 2 ** (len(vae.config.block_out_channels) - 1)
        self.scale: float = vae.config.scaling_factor if scaled else 1.0
        self.precise = True
        self.rows: int | None = None
        self.cache: EncoderCache | None = None
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, regardless of the rest of the model."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Encode RGB images.

        Args:
            images: (B, 3, H, W) in [0, 1]

        Returns:
            (B, 4, H // 8, W // 8); the number of channels and the stride depend on the VAE
        """
        if self.cache is None:
            latents = self._encoded(images)
        else:
            (latents,) = self.cache.outputs(images, lambda batch: [self._encoded(batch)])
        # Scale last, because models with the same VAE share the cache but may scale differently.
        return latents if self.scale == 1 else latents * self.scale

    def _encoded(self, images: Tensor) -> Tensor:
        encoder = self.encoder if self.rows is None else StripEncoder(self.encoder, self.rows)
        layers = nn.Sequential(encoder, self.quant_conv or nn.Identity())
        pixels = images * 2 - 1
        if self.precise and pixels.device.type == "cpu" and pixels.dtype == torch.float32:
            weights = {name: tensor.double() for name, tensor in layers.state_dict().items()}
            moments = functional_call(layers, weights, (pixels.double(),)).to(pixels.dtype)
        else:
            moments = layers(pixels)
        mean: Tensor = moments.chunk(2, dim=1)[0]
        return mean


def vae_tensors(encoder: LatentEncoder) -> list[tuple[str, Tensor]]:
    """The names and tensors by which a VAE's encoder is identified."""
    return [each for part in ("encoder", "quant_conv") for each in named_tensors(part, getattr(encoder, part))]
