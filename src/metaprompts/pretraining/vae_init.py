"""Initial weights with which the VAE averages 8x8 blocks, so that training only has to add detail.

From random weights, most of the training would be spent on learning plain colors. The two norms before the
output convolutions lose these colors, because they divide by the contrast of the image.
"""

import math

import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from metaprompts.errors import InputError

# Orthonormal rows: brightness, red against blue, green against both.
_OPPONENT = (
    (1 / math.sqrt(3), 1 / math.sqrt(3), 1 / math.sqrt(3)),
    (1 / math.sqrt(2), 0.0, -1 / math.sqrt(2)),
    (1 / math.sqrt(6), -2 / math.sqrt(6), 1 / math.sqrt(6)),
)
_Taps = tuple[tuple[float, ...], ...]

_CARRIED = 3
_PAIRED = 2 * _CARRIED
_NARROWEST = _PAIRED + 2
_AVERAGE = ((0.25, 0.25, 0.0), (0.25, 0.25, 0.0), (0.0, 0.0, 0.0))
_LOG_VARIANCE = -6.0


@torch.no_grad()
def begin_at_block_averages(vae: AutoencoderKL) -> None:
    """Set a VAE's weights so that three latent channels are the colors of 8x8 blocks.

    Three channels carry the colors past the residual branches, which start at zero. Before the last norm each color
    is duplicated, with both signs, as silu(x) - silu(-x) = x; two constant channels outweigh the others, so that the
    norm divides by nearly the same value in every image. All other channels stay random.

    Args:
        vae: the VAE, with random weights; changed in place

    Raises:
        InputError: the VAE is too narrow
    """
    widths, latents = vae.config.block_out_channels, vae.config.latent_channels
    if min(widths) < _NARROWEST or latents < _CARRIED:
        raise InputError(
            f"vae.block_out_channels {list(widths)} and vae.latent_channels {latents} are too small; expected at "
            f"least {_NARROWEST} in every block and {_CARRIED} in the latent"
        )
    _silence_branches(vae)
    _begin_encoder(vae)
    _begin_decoder(vae)


def _begin_encoder(vae: AutoencoderKL) -> None:
    encoder, latents = vae.encoder, vae.config.latent_channels
    _carry(encoder.conv_in, torch.tensor(_OPPONENT))
    samplers = [sampler.conv for block in encoder.down_blocks for sampler in block.downsamplers or ()]
    _begin_middle(encoder.down_blocks, samplers, _AVERAGE, encoder.conv_norm_out.num_channels)
    _carry(encoder.conv_out, _joining())
    encoder.conv_out.weight[latents:] = 0
    encoder.conv_out.bias[latents:] = _LOG_VARIANCE
    _carry(vae.quant_conv, torch.eye(2 * latents))


def _begin_decoder(vae: AutoencoderKL) -> None:
    decoder = vae.decoder
    _carry(vae.post_quant_conv, torch.eye(vae.config.latent_channels))
    _carry(decoder.conv_in, torch.eye(_CARRIED))
    samplers = [sampler.conv for block in decoder.up_blocks for sampler in block.upsamplers or ()]
    _begin_middle(decoder.up_blocks, samplers, None, decoder.conv_norm_out.num_channels)
    _carry(decoder.conv_out, torch.tensor(_OPPONENT).T @ _joining())


def _begin_middle(blocks: nn.ModuleList, samplers: list[nn.Conv2d], taps: _Taps | None, last_width: int) -> None:
    """Carry the colors through the blocks; the last resampling layer duplicates them for the final norm."""
    *inner, last = samplers
    for convolution in inner:
        _carry(convolution, torch.eye(_CARRIED), taps)
    _carry(last, torch.cat([torch.eye(_CARRIED), -torch.eye(_CARRIED), torch.zeros(2, _CARRIED)]), taps)
    # With these two, the norm divides by about the square root of 2 for any image.
    _bias(last)[_PAIRED:_NARROWEST] = math.sqrt(last_width) * torch.tensor([1.0, -1.0])
    for place, block in enumerate(blocks):
        count = _NARROWEST if place == len(blocks) - 1 else _CARRIED
        resnets = [layer for layer in block.modules() if isinstance(layer, ResnetBlock2D)]
        for shortcut in (resnet.conv_shortcut for resnet in resnets if resnet.conv_shortcut is not None):
            _carry(shortcut, torch.eye(count))
            # The constants only serve the norm.
            shortcut.weight[count:, _PAIRED:count] = 0


def _joining() -> Tensor:
    """The matrix (3, 6) from pairs after norm and SiLU to colors."""
    return math.sqrt(2) * torch.cat([torch.eye(_CARRIED), -torch.eye(_CARRIED)], dim=1)


def _carry(convolution: nn.Conv2d, matrix: Tensor, taps: _Taps | None = None) -> None:
    """Make the first outputs of a convolution a linear map of only the first inputs.

    Args:
        convolution: a convolution with any kernel size
        matrix: (outputs, inputs)
        taps: weights of the pixels in the window; None to use only the center pixel
    """
    outputs, inputs = matrix.shape
    window = torch.zeros_like(convolution.weight[0, 0])
    if taps is None:
        window[window.shape[0] // 2, window.shape[1] // 2] = 1
    else:
        window.copy_(torch.tensor(taps))
    convolution.weight[:outputs] = 0
    convolution.weight[:outputs, :inputs] = matrix[:, :, None, None] * window
    _bias(convolution)[:outputs] = 0


def _bias(convolution: nn.Conv2d) -> Tensor:
    assert convolution.bias is not None
    return convolution.bias


def _silence_branches(vae: AutoencoderKL) -> None:
    """Initialize the residual branches to zero."""
    for layer in vae.modules():
        ends = [layer.conv2] if isinstance(layer, ResnetBlock2D) else []
        ends += [layer.to_out[0]] if isinstance(layer, Attention) else []
        for end in ends:
            nn.init.zeros_(end.weight)
            nn.init.zeros_(end.bias)
