"""Read an architecture from the tensor shapes of an LDM checkpoint.

Every width occurs in the shapes of many tensors; the most frequent value is used. So the architecture of a file with
missing or wrong tensors is still recognized, and the importer can name these tensors.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Any

from torch import Tensor

from metaprompts.errors import InputError

# The number of heads cannot be read from shapes. Stable Diffusion 1 has 8 heads everywhere; models with linear
# projections (Stable Diffusion 2) have heads with 64 channels.
_HEADS = 8
_CHANNELS_PER_HEAD = 64

_MOST_LEVELS = 6
_MOST_LAYERS = 4
# Stable Diffusion XL has 10.
_MOST_TRANSFORMERS = 16
_UNET_BLOCK = re.compile(r"input_blocks\.(\d{1,6})\.0\.(op|in_layers|emb_layers|out_layers|skip_connection)\.")
_UNET_TRANSFORMER = re.compile(
    r"((?:input_blocks|output_blocks)\.\d+\.1|middle_block\.1)\.transformer_blocks\.(\d{1,6})\."
)
_VAE_BLOCK = re.compile(r"encoder\.down\.(\d{1,6})\.block\.(\d{1,6})\.")
# The tensors of a residual block, and the axes whose length is the width of its output.
_UNET_WIDTHS = (
    ("out_layers.3.weight", 0),
    ("out_layers.3.bias", 0),
    ("out_layers.3.weight", 1),
    ("out_layers.0.weight", 0),
    ("in_layers.2.weight", 0),
    ("in_layers.2.bias", 0),
    ("emb_layers.1.weight", 0),
)
_VAE_WIDTHS = (
    ("conv2.weight", 0),
    ("conv2.bias", 0),
    ("conv2.weight", 1),
    ("norm2.weight", 0),
    ("conv1.weight", 0),
    ("conv1.bias", 0),
)


def configs_from_ldm(
    unet: Mapping[str, Tensor], vae: Mapping[str, Tensor], origin: object
) -> dict[str, dict[str, Any]]:
    """Read the diffusers configs of a UNet and a VAE from their shapes.

    Args:
        unet: LDM names without prefix, for example ``input_blocks.0.0.weight``
        vae: LDM names without prefix, for example ``encoder.conv_in.weight``
        origin: name of the file in errors

    Returns:
        the configs as ``unet`` and ``vae``

    Raises:
        InputError: too few tensors to determine the widths
    """
    try:
        vae_config = _vae_config(vae)
        return {"unet": _unet_config(unet, vae_config["latent_channels"]), "vae": vae_config}
    except KeyError as error:
        raise InputError(
            f"{origin} has no UNet and VAE encoder under LDM names: its widths cannot be read without {error.args[0]}"
        ) from error


def dimension(tensors: Mapping[str, Tensor], *places: tuple[str, int]) -> int:
    """The most frequent length among some axes.

    Args:
        tensors: name -> tensor
        places: (name, axis) of tensors that share this length; ties go to the first

    Raises:
        KeyError: all of these tensors are missing
    """
    lengths = [tensors[name].shape[axis] for name, axis in places if name in tensors and tensors[name].ndim > axis]
    if not lengths:
        raise KeyError(places[0][0])
    return int(_most_frequent(lengths))


def _most_frequent(values: Iterable[Any]) -> Any:
    return Counter(values).most_common(1)[0][0]


def _unet_config(tensors: Mapping[str, Tensor], latent_channels: int) -> dict[str, Any]:
    levels, layers = _unet_grid(tensors)
    blocks = [_blocks_of_level(level, levels, layers) for level in range(levels)]
    depths = _transformer_depths(tensors)
    level_depths = [_most_frequent(depths.get(f"{block}.1", 0) for block in level) for level in blocks]
    crossing = [depth > 0 for depth in level_depths]
    attentions = [block for block, depth in depths.items() if depth]
    linear = _has_linear_projections(tensors, attentions)
    widths = [
        dimension(tensors, *((f"{block}.0.{name}", axis) for block in level for name, axis in _UNET_WIDTHS))
        for level in blocks
    ]
    return {
        "in_channels": latent_channels,
        "out_channels": latent_channels,
        "down_block_types": ["CrossAttnDownBlock2D" if crosses else "DownBlock2D" for crosses in crossing],
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "up_block_types": ["CrossAttnUpBlock2D" if crosses else "UpBlock2D" for crosses in reversed(crossing)],
        "block_out_channels": widths,
        "layers_per_block": layers,
        # The last entry is also that of the middle block.
        "transformer_layers_per_block": [
            max(depth, 1) for depth in [*level_depths[:-1], level_depths[-1] or depths.get("middle_block.1", 1)]
        ],
        "cross_attention_dim": dimension(
            tensors,
            *(
                (f"{block}.transformer_blocks.0.attn2.{name}.weight", 1)
                for block in attentions or ["middle_block.1"]
                for name in ("to_k", "to_v")
            ),
        ),
        "attention_head_dim": [max(width // _CHANNELS_PER_HEAD, 1) for width in widths] if linear else _HEADS,
        "use_linear_projection": linear,
        "norm_num_groups": 32,
    }


def _unet_grid(names: Iterable[str]) -> tuple[int, int]:
    """The number of levels, and of residual layers per level, inferred from which input blocks are downsamplers."""
    votes: dict[int, list[bool]] = {}
    for name in names:
        if found := _UNET_BLOCK.match(name):
            votes.setdefault(int(found[1]), []).append(found[2] == "op")
    if not votes:
        raise KeyError("input_blocks.1.0.in_layers.2.weight")
    is_downsampler = {block: _most_frequent(said) for block, said in votes.items()}
    return _best_grid(
        is_downsampler,
        lambda levels, layers: {block: block % (layers + 1) == 0 for block in range(1, levels * (layers + 1))},
    )


def _blocks_of_level(level: int, levels: int, layers: int) -> list[str]:
    """The blocks with residual layers, down and up."""
    first_down, first_up = 1 + level * (layers + 1), (levels - 1 - level) * (layers + 1)
    return [
        *(f"input_blocks.{block}" for block in range(first_down, first_down + layers)),
        *(f"output_blocks.{block}" for block in range(first_up, first_up + layers + 1)),
    ]


def _transformer_depths(names: Iterable[str]) -> dict[str, int]:
    """Attention block -> number of transformer layers."""
    depths: dict[str, int] = {}
    for name in names:
        if found := _UNET_TRANSFORMER.match(name):
            depths[found[1]] = max(depths.get(found[1], 0), int(found[2]) + 1)
    return {block: min(depth, _MOST_TRANSFORMERS) for block, depth in depths.items()}


def _has_linear_projections(tensors: Mapping[str, Tensor], attentions: Iterable[str]) -> bool:
    names = [f"{block}.{name}.weight" for block in attentions for name in ("proj_in", "proj_out")]
    axes = [tensors[name].ndim for name in names if name in tensors]
    return bool(axes) and bool(_most_frequent(axes) == 2)


def _vae_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    blocks = {(int(found[1]), int(found[2])): True for name in tensors if (found := _VAE_BLOCK.match(name))}
    if not blocks:
        raise KeyError("encoder.down.0.block.0.conv2.weight")
    levels, layers = _best_grid(
        blocks, lambda levels, layers: dict.fromkeys(product(range(levels), range(layers)), True)
    )
    moments = (
        ("quant_conv.weight", 0),
        ("quant_conv.bias", 0),
        ("quant_conv.weight", 1),
        ("encoder.conv_out.weight", 0),
    )
    return {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": [
            dimension(
                tensors,
                *(
                    (f"encoder.down.{level}.block.{layer}.{name}", axis)
                    for layer in range(layers)
                    for name, axis in _VAE_WIDTHS
                ),
            )
            for level in range(levels)
        ],
        "layers_per_block": layers,
        "latent_channels": dimension(tensors, *moments) // 2,
        "norm_num_groups": 32,
    }


def _best_grid(found: Mapping[Any, bool], expected: Callable[[int, int], Mapping[Any, bool]]) -> tuple[int, int]:
    """The numbers of levels and layers whose blocks differ least from those that were found."""

    def differences(grid: tuple[int, int]) -> int:
        blocks = expected(*grid)
        return sum(found.get(block) != blocks.get(block) for block in found.keys() | blocks.keys())

    return min(product(range(1, _MOST_LEVELS + 1), range(1, _MOST_LAYERS + 1)), key=differences)
