"""Run the VAE's encoder in horizontal strips: the same numbers, except for rounding, in a fraction of the memory.

Only one whole map is held between layers; a layer processes one strip of rows at a time, with neighboring rows. A norm
needs the statistics of the whole map, so a residual layer computes its first convolution twice: once to compute the
second norm's statistics, once to use them. Encoding then takes 1.5 times as long.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.autoencoders.vae import Encoder
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import DownEncoderBlock2D
from torch import Tensor, nn

from metaprompts.errors import InputError

Activate = Callable[[Tensor], Tensor]


class StripEncoder(nn.Module):
    """An encoder that runs in horizontal strips.

    A strip has the same number of rows at every level, because levels gain in channels what they lose in width.

    Args:
        layers: the layers of Stable Diffusion's encoder; shared, not copied
        rows: height of a strip in every map, at least 1

    Raises:
        InputError: the height is invalid, or the encoder has unsupported layers
    """

    def __init__(self, layers: Encoder, rows: int) -> None:
        super().__init__()
        if rows < 1:
            raise InputError(f"strips of {rows} rows requested; expected at least 1")
        _check_layers(layers)
        self.layers = layers
        self.rows = rows

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """Encode pixels.

        Args:
            pixels: (B, 3, H, W) in [-1, 1]

        Returns:
            (B, C, H // 8, W // 8), the output of the encoder
        """
        features = _convolved(self.layers.conv_in, pixels, self.rows)
        for block in self.layers.down_blocks:
            for residual in block.resnets:
                features = _changed(residual, features, self.rows)
            for halving in block.downsamplers or ():
                features = _halved(halving, features, self.rows)
        first, *others = self.layers.mid_block.resnets
        features = _changed(first, features, self.rows)
        for attention, residual in zip(self.layers.mid_block.attentions, others, strict=True):
            if attention is not None:
                _attend(attention, features, self.rows)
            features = _changed(residual, features, self.rows)
        norm = _Norm(self.layers.conv_norm_out, torch.split(features, self.rows, dim=2))
        return _convolved(self.layers.conv_out, features, self.rows, lambda strip: self.layers.conv_act(norm(strip)))


class _Norm:
    """A group norm whose statistics are summed over strips beforehand.

    Args:
        layer: the norm
        strips: strips of the map, (B, C, h, w) each
    """

    def __init__(self, layer: nn.GroupNorm, strips: Iterable[Tensor]) -> None:
        mean, variance = _moments(strips, layer.num_groups)
        scale = (variance + layer.eps).rsqrt().repeat_interleave(layer.num_channels // layer.num_groups, dim=1)
        shift = -mean.repeat_interleave(layer.num_channels // layer.num_groups, dim=1) * scale
        # Half-precision types are normalized in single precision, as in PyTorch's own norm.
        self._precision = torch.promote_types(layer.weight.dtype, torch.float32)
        self._scale = self._of_channels(scale * layer.weight)
        self._shift = self._of_channels(shift * layer.weight + layer.bias)

    def __call__(self, strip: Tensor) -> Tensor:
        """Normalize rows (B, C, h, w) of the map."""
        return torch.addcmul(self._shift, strip.to(self._precision), self._scale).to(strip.dtype)

    def _of_channels(self, values: Tensor) -> Tensor:
        return values.to(self._precision)[..., None, None]


def _moments(strips: Iterable[Tensor], groups: int) -> tuple[Tensor, Tensor]:
    """Mean and variance (B, groups) of a map given in strips, in double precision where supported.

    Strips are combined by the formula of Chan, Golub and LeVeque (1979), which avoids cancellation, however far the
    mean is from 0.
    """
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for strip in strips:
        precision = torch.float32 if strip.device.type == "mps" else torch.float64
        numbers = strip.reshape(len(strip), groups, -1).to(precision)
        added = numbers.shape[2]
        variance, own_mean = torch.var_mean(numbers, dim=2, correction=0)
        if count == 0:
            mean, squares = torch.zeros_like(own_mean), torch.zeros_like(variance)
        distance = own_mean - mean
        count += added
        mean = mean + distance * (added / count)
        squares = squares + variance * added + distance.square() * (added * (count - added) / count)
    return mean, squares / count


def _convolved(layer: nn.Conv2d, features: Tensor, rows: int, activate: Activate = lambda strip: strip) -> Tensor:
    """A 3x3 convolution of the activated map."""
    out = features.new_empty(len(features), layer.out_channels, *features.shape[2:])
    for part, (strip, above, below) in zip(torch.split(out, rows, dim=2), _with_neighbors(features, rows), strict=True):
        part.copy_(_convolve(layer, activate(strip), above, below))
    return out


def _changed(layer: ResnetBlock2D, features: Tensor, rows: int) -> Tensor:
    """Apply a residual layer to a map, in place if the number of channels does not change."""
    first_norm = _Norm(layer.norm1, torch.split(features, rows, dim=2))

    def hidden(strip: Tensor, above: int, below: int) -> Tensor:
        return _convolve(layer.conv1, layer.nonlinearity(first_norm(strip)), above, below)

    second_norm = _Norm(layer.norm2, (hidden(*each) for each in _with_neighbors(features, rows)))
    height = features.shape[2]
    out = features
    if layer.conv_shortcut is not None:
        out = features.new_empty(len(features), layer.conv2.out_channels, *features.shape[2:])
    # The rows above a strip, as they were before they were overwritten.
    kept = features[:, :, :0]
    for first, last in _bounds(height, rows):
        start, end = max(first - 2, 0), min(last + 2, height)
        source = torch.cat([kept, features[:, :, first:end]], dim=2)
        kept = source[:, :, max(last - 2, 0) - start : last - start].clone()
        top, bottom = max(first - 1, 0), min(last + 1, height)
        strip = second_norm(hidden(source, start - (top - 1), bottom + 1 - end))
        change = _convolve(layer.conv2, layer.nonlinearity(strip), top - (first - 1), last + 1 - bottom)
        straight = source[:, :, first - start : last - start]
        if layer.conv_shortcut is not None:
            straight = layer.conv_shortcut(straight)
        out[:, :, first:last] = (straight + change) / layer.output_scale_factor
    return out


def _halved(layer: Downsample2D, features: Tensor, rows: int) -> Tensor:
    """Apply a convolution that halves height and width; zeros pad the map only at the bottom and right."""
    batch, _, height, width = features.shape
    out = features.new_empty(batch, layer.conv.out_channels, height // 2, width // 2)
    for first, last in _bounds(height // 2, rows):
        strip = features[:, :, 2 * first : 2 * last + 1]
        missing = 2 * last + 1 - min(2 * last + 1, height)
        out[:, :, first:last] = layer.conv(F.pad(strip, (0, 1, 0, missing)))
    return out


def _attend(layer: Attention, features: Tensor, rows: int) -> None:
    """Self-attention over all pixels of a map, added to it; queries are computed strip by strip."""
    norm = _Norm(layer.group_norm, torch.split(features, rows, dim=2))

    def pixels(strip: Tensor) -> Tensor:
        return norm(strip).flatten(2).transpose(1, 2)

    def heads(projected: Tensor) -> Tensor:
        batch, length, _ = projected.shape
        return projected.view(batch, length, layer.heads, -1).transpose(1, 2)

    key = heads(torch.cat([layer.to_k(pixels(strip)) for strip in torch.split(features, rows, dim=2)], dim=1))
    value = heads(torch.cat([layer.to_v(pixels(strip)) for strip in torch.split(features, rows, dim=2)], dim=1))
    for strip in torch.split(features, rows, dim=2):
        seen = F.scaled_dot_product_attention(heads(layer.to_q(pixels(strip))), key, value)
        found = layer.to_out[0](seen.transpose(1, 2).flatten(2)).transpose(1, 2)
        strip.add_(found.reshape(strip.shape)).div_(layer.rescale_output_factor)


def _convolve(layer: nn.Conv2d, strip: Tensor, above: int, below: int) -> Tensor:
    """A 3x3 convolution of rows passed with their neighboring rows; neighbors beyond the edge of the map are zeros."""
    if above or below:
        strip = F.pad(strip, (0, 0, above, below))
    return F.conv2d(strip, layer.weight, layer.bias, padding=(0, 1))


def _with_neighbors(features: Tensor, rows: int) -> Iterator[tuple[Tensor, int, int]]:
    """Strips with one more row above and below, and how many of these two rows are outside the map."""
    height = features.shape[2]
    for first, last in _bounds(height, rows):
        top, bottom = max(first - 1, 0), min(last + 1, height)
        yield features[:, :, top:bottom], top - (first - 1), last + 1 - bottom


def _bounds(height: int, rows: int) -> Iterator[tuple[int, int]]:
    for first in range(0, height, rows):
        yield first, min(first + rows, height)


def _check_layers(layers: Encoder) -> None:
    foreign = {type(block).__name__ for block in layers.down_blocks if not isinstance(block, DownEncoderBlock2D)}
    if foreign:
        raise InputError(
            f"the VAE's encoder contains {', '.join(sorted(foreign))}; strips need DownEncoderBlock2D, as in "
            "Stable Diffusion: encode whole images"
        )
