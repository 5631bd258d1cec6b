"""Reading an architecture from the tensor shapes of an LDM checkpoint."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from metaprompts.errors import InputError

# Neither can be read from shapes. Stable Diffusion 1 has 8 heads everywhere; those with linear projections
# (Stable Diffusion 2) have heads of 64 channels.
_HEADS = 8
_CHANNELS_PER_HEAD = 64


def unet_config_from_ldm(tensors: Mapping[str, Tensor], origin: object) -> dict[str, Any]:
    """Read a UNet's diffusers config from its shapes.

    Args:
        tensors: LDM names without prefix, such as ``input_blocks.0.0.weight``
        origin: what to call them in an error

    Raises:
        InputError: too little is there to read the widths
    """
    try:
        return _unet_config(tensors)
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"{origin} holds no UNet in LDM names: cannot read its widths, for want of {error}") from error


def vae_config_from_ldm(tensors: Mapping[str, Tensor], origin: object) -> dict[str, Any]:
    """Read a VAE's diffusers config from its encoder's shapes.

    Args:
        tensors: LDM names without prefix, such as ``encoder.conv_in.weight``
        origin: what to call them in an error

    Raises:
        InputError: too little is there to read the widths
    """
    try:
        return _vae_config(tensors)
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(
            f"{origin} holds no VAE encoder in LDM names: cannot read its widths, for want of {error}"
        ) from error


def dimension(tensors: Mapping[str, Tensor], *places: tuple[str, int]) -> int:
    """The length of an axis, from the first tensor that is there.

    A file that lacks one tensor can so still be compared as a whole, and everything it lacks be named at once.

    Args:
        tensors: name -> tensor
        places: (name, axis) of tensors that share this length

    Raises:
        KeyError: none of them is there
    """
    for name, axis in places:
        if name in tensors and tensors[name].ndim > axis:
            return tensors[name].shape[axis]
    raise KeyError(places[0][0])


def _unet_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    downsamplers = sorted({int(name.split(".")[1]) for name in tensors if ".0.op." in name})
    layers = downsamplers[0] - 1
    firsts = [1 + level * (layers + 1) for level in range(len(downsamplers) + 1)]
    widths = [
        dimension(tensors, *((f"input_blocks.{first}.0.{name}", 0) for name in ("out_layers.3.weight", "out_layers.3.bias")))
        for first in firsts
    ]
    crossing = [_depth(tensors, f"input_blocks.{first}.1.transformer_blocks.") > 0 for first in firsts]
    attention = f"input_blocks.{firsts[crossing.index(True)]}.1"
    linear = next(
        tensors[name].ndim == 2 for name in (f"{attention}.proj_in.weight", f"{attention}.proj_out.weight") if name in tensors
    )
    block = f"{attention}.transformer_blocks.0.attn2"
    in_channels = dimension(tensors, ("input_blocks.0.0.weight", 1), ("out.2.bias", 0))
    has_output = "out.2.weight" in tensors or "out.2.bias" in tensors
    return {
        "in_channels": in_channels,
        "out_channels": dimension(tensors, ("out.2.weight", 0), ("out.2.bias", 0)) if has_output else in_channels,
        "down_block_types": ["CrossAttnDownBlock2D" if crosses else "DownBlock2D" for crosses in crossing],
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "up_block_types": ["CrossAttnUpBlock2D" if crosses else "UpBlock2D" for crosses in reversed(crossing)],
        "block_out_channels": widths,
        "layers_per_block": layers,
        "transformer_layers_per_block": [
            max(_depth(tensors, f"input_blocks.{first}.1.transformer_blocks."), 1) for first in firsts
        ],
        "cross_attention_dim": dimension(tensors, (f"{block}.to_k.weight", 1), (f"{block}.to_v.weight", 1)),
        "attention_head_dim": [width // _CHANNELS_PER_HEAD for width in widths] if linear else _HEADS,
        "use_linear_projection": linear,
        "norm_num_groups": 32,
    }


def _vae_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    levels = _depth(tensors, "encoder.down.")
    layers = _depth(tensors, "encoder.down.0.block.")
    widths = [
        dimension(tensors, *((f"encoder.down.{level}.block.0.conv2.{part}", 0) for part in ("weight", "bias")))
        for level in range(levels)
    ]
    if not widths:
        raise KeyError("encoder.down.0.block.0.conv2.weight")
    return {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": widths,
        "layers_per_block": layers,
        "latent_channels": dimension(tensors, ("quant_conv.weight", 0), ("quant_conv.bias", 0)) // 2,
        "norm_num_groups": 32,
    }


def _depth(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered parts follow a prefix."""
    numbers = {name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)}
    return 1 + max((int(number) for number in numbers), default=-1)
