"""Give latents zero mean and unit standard deviation, by changing only two 1x1 convolutions."""

import torch
from diffusers import AutoencoderKL
from torch import Tensor


def channel_moments(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every channel.

    Args:
        latents: (B, C, h, w)

    Returns:
        (C,) and (C,), in double precision
    """
    channels = latents.double().transpose(0, 1).flatten(1)
    return channels.mean(dim=1), channels.std(dim=1, correction=0)


@torch.no_grad()
def standardize(vae: AutoencoderKL, mean: Tensor, std: Tensor) -> None:
    """Change a VAE to encode to (latent - mean) / std, without changing decoded images.

    The encoder's last convolution gives the posterior's mean m and log variance v: m becomes (m - mean) / std and v
    becomes v - 2 ln std. The decoder's first convolution takes z * std + mean. The scaling factor becomes 1.

    Args:
        vae: changed in place; the change is exact, except that diffusers limits the log variance to [-30, 20]
        mean: (C,), mean of the posterior's mean over many images
        std: (C,), the divisor: the standard deviation, or the same number for all channels, which keeps their relative
            spread
    """
    assert vae.quant_conv is not None
    assert vae.post_quant_conv is not None
    encode, decode = vae.quant_conv, vae.post_quant_conv
    channels = len(mean)
    weight, bias = encode.weight.double(), encode.bias.double()
    weight[:channels] /= std[:, None, None, None]
    bias[:channels] = (bias[:channels] - mean) / std
    bias[channels:] -= 2 * std.log()
    encode.weight.copy_(weight)
    encode.bias.copy_(bias)

    weight, bias = decode.weight.double(), decode.bias.double()
    decode.bias.copy_(bias + weight[:, :, 0, 0] @ mean)
    decode.weight.copy_(weight * std[None, :, None, None])
    vae.register_to_config(scaling_factor=1.0)
