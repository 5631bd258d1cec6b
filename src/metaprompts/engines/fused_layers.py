"""Layers equivalent to those of diffusers that read precomputed values, and folded layers."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from metaprompts.errors import InputError
from metaprompts.modules.backbone.lora import LORA_MARK
from metaprompts.utils.torch_modules import sharing_weights


class ShiftedResidual(nn.Module):
    """A residual layer whose time embedding only shifts its channels; the shifts are precomputed.

    Args:
        layer: the original layer, whose weights are shared
        slot: position of this layer's shifts among those of all layers
    """

    def __init__(self, layer: ResnetBlock2D, slot: slice) -> None:
        super().__init__()
        self.norm1, self.conv1 = layer.norm1, sharing_weights(layer.conv1)
        self.conv1.bias = None
        self.norm2, self.conv2 = layer.norm2, layer.conv2
        self.shortcut = layer.conv_shortcut
        self.scale: float = layer.output_scale_factor
        self.slot = slot

    def forward(self, features: Tensor, shifts: Tensor) -> Tensor:
        """Transform features (B, C, h, w); the shifts (1, S) of all layers include the first convolution's bias."""
        hidden = self.conv1(F.silu(self.norm1(features))) + shifts[:, self.slot, None, None]
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        summed: Tensor = (features if self.shortcut is None else self.shortcut(features)) + hidden
        return summed if self.scale == 1 else summed / self.scale


def shift_of(layer: ResnetBlock2D, time: Tensor) -> Tensor:
    """The shifts (1, C) of a layer's channels for a time vector (1, T), plus the first convolution's bias.

    Raises:
        InputError: the layer uses its time embedding differently
    """
    if layer.time_embedding_norm != "default" or layer.upsample is not None or layer.downsample is not None:
        raise InputError(
            f"the UNet's residual layers have time embedding {layer.time_embedding_norm}; expected that of Stable "
            "Diffusion: use engine plain"
        )
    shift: Tensor = layer.time_emb_proj(time if layer.skip_time_act else F.silu(time))
    return shift if layer.conv1.bias is None else shift + layer.conv1.bias


class KeyedCrossAttention(nn.Module):
    """Cross-attention with precomputed keys and values.

    Args:
        layer: the original layer, whose weights are shared
        slot: position of this layer's keys and values among those of all layers
    """

    def __init__(self, layer: Attention, slot: slice) -> None:
        super().__init__()
        self.heads: int = layer.heads
        self.to_query = merged(layer.to_q)
        self.to_out = merged(layer.to_out[0])
        self.slot = slot

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: None = None,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """Cross-attention from every pixel to the prompts.

        Args:
            hidden_states: (B, h w, C)
            encoder_hidden_states: (1 or B, N, P), keys and values of all layers
            attention_mask: None
            size: (h, w), which the self-attention of the same block may need

        Returns:
            (B, h w, C)
        """
        del attention_mask, size
        batch, pixels, channels = hidden_states.shape
        query = self.to_query(hidden_states).view(batch, pixels, self.heads, -1).transpose(1, 2)
        of_layer = encoder_hidden_states[..., self.slot]
        both = of_layer.view(*of_layer.shape[:2], 2, self.heads, -1).expand(batch, -1, -1, -1, -1)
        key, value = both.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value)
        return self.to_out(seen.transpose(1, 2).reshape(batch, pixels, channels))  # type: ignore[no-any-return]


def key_value_layer(layer: Attention) -> nn.Linear:
    """A single projection of prompts (B, N, D) to a layer's keys and values (B, N, 2 C)."""
    key, value = merged(layer.to_k), merged(layer.to_v)
    both = nn.Linear(key.in_features, key.out_features + value.out_features, bias=False, device="meta")
    both.weight = _fixed(torch.cat([key.weight, value.weight]))
    return both


def merged(layer: Any) -> nn.Linear:
    """A linear layer with its LoRA weights merged; unchanged without LoRA."""
    if not any(LORA_MARK in f".{name}" for name, _ in layer.named_parameters()):
        return layer  # type: ignore[no-any-return]
    plain: nn.Linear = sharing_weights(layer.get_base_layer())
    plain.weight = _fixed(plain.weight + sum(layer.get_delta_weight(adapter) for adapter in layer.active_adapters))
    return plain


def doubling_convolution(layer: Upsample2D) -> nn.ConvTranspose2d:
    """Nearest-neighbor upsampling and the 3x3 convolution after it, as one transposed convolution.

    Of the nine pixels that the convolution reads, only four differ, so this is 2.25 times cheaper and creates no
    upsampled map.

    Raises:
        InputError: the layer is of a different kind
    """
    convolution = layer.conv
    if not isinstance(convolution, nn.Conv2d) or convolution.kernel_size != (3, 3) or layer.norm is not None:
        raise InputError("the UNet's upsampling is not that of Stable Diffusion: use engine plain")
    weight = convolution.weight.detach()
    # Rows (then columns) of the transposed kernel: output 2i reads pixels i - 1 and i, output 2i + 1 reads i and i + 1.
    rows = torch.stack(
        [weight[:, :, 2], weight[:, :, 1] + weight[:, :, 2], weight[:, :, 0] + weight[:, :, 1], weight[:, :, 0]], dim=2
    )
    both = torch.stack([rows[..., 2], rows[..., 1] + rows[..., 2], rows[..., 0] + rows[..., 1], rows[..., 0]], dim=3)
    doubling = nn.ConvTranspose2d(
        convolution.in_channels, convolution.out_channels, 4, stride=2, padding=1, device="meta"
    )
    doubling.weight = _fixed(both.transpose(0, 1).contiguous())
    doubling.bias = convolution.bias
    return doubling


def fold_batch_norms(module: nn.Module) -> None:
    """Fold each batch norm in a module's `nn.Sequential` containers into the preceding convolution.

    Args:
        module: in evaluation mode; changed in place, except for its convolutions, which are copied
    """
    for sequence in [each for each in module.modules() if isinstance(each, nn.Sequential)]:
        for index in range(len(sequence) - 1):
            convolution, norm = sequence[index], sequence[index + 1]
            if isinstance(convolution, nn.Conv2d | nn.ConvTranspose2d) and isinstance(norm, nn.BatchNorm2d):
                transposed = isinstance(convolution, nn.ConvTranspose2d)
                sequence[index], sequence[index + 1] = fuse_conv_bn_eval(convolution, norm, transposed), nn.Identity()


def folded_convolution(first: nn.Conv2d, then: nn.Conv2d | None, channels: int) -> nn.Conv2d:
    """Merge the first channels of a convolution, and a 1x1 convolution after it, into one convolution.

    Args:
        first: a convolution with any padding and kernel
        then: a 1x1 convolution, or None
        channels: number of outputs to keep
    """
    weight, bias = first.weight.detach(), first.bias.detach()  # type: ignore[union-attr]
    if then is not None:
        mixing = then.weight.detach()[:channels, :, 0, 0]
        # In double precision, so that the product is rounded only once.
        weight = torch.einsum("oc,cikl->oikl", mixing.double(), weight.double()).to(weight.dtype)
        bias = (mixing.double() @ bias.double() + then.bias.detach()[:channels].double()).to(bias.dtype)  # type: ignore[union-attr]
    folded = nn.Conv2d(first.in_channels, channels, first.kernel_size, padding=first.padding, device="meta")  # type: ignore[arg-type]
    folded.weight, folded.bias = _fixed(weight[:channels].clone()), _fixed(bias[:channels].clone())
    return folded


def replace_layers(module: nn.Module, kind: type[nn.Module], exchanged: Callable[..., nn.Module]) -> None:
    """Replace all layers of a type, in the order of `nn.Module.modules`."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kind):
                setattr(parent, name, exchanged(child))


def _fixed(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach(), requires_grad=False)
