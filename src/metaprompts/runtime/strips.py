"""Prepared encoding over strips of rows, for pictures whose maps do not fit in memory."""

from torch import Tensor, nn

from metaprompts.backbone.strips import StripEncoder
from metaprompts.runtime.prepared import Encode


class StripEncode(nn.Module):
    """`Encode` in strips: the same latents, but for rounding.

    Args:
        encode: shares its weights
        rows: height of a strip in every map, at least 1

    Raises:
        InputError: there is no such strip, or the encoder has other layers than Stable Diffusion's
    """

    def __init__(self, encode: Encode, rows: int) -> None:
        super().__init__()
        self.layers = StripEncoder(encode.layers, rows)
        self.scale = encode.scale

    def forward(self, images: Tensor) -> Tensor:
        """Encode pictures (B, 3, H, W) in [0, 1] as latents (B, 4, H // 8, W // 8)."""
        latent: Tensor = self.layers(images * 2 - 1)
        return latent if self.scale == 1 else latent * self.scale
