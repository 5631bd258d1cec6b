"""Names of the same tensors in diffusers and in the original latent-diffusion (LDM) code.

Stable Diffusion's single-file checkpoints and the authors' released checkpoints use LDM names. With a map of names
instead of a converter, an importer can name every missing, unexpected or mis-shaped tensor as the file spells it.
"""

import re
from collections.abc import Mapping
from typing import Any

_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET_FIXED = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
}
_VAE_FIXED = {
    "encoder.conv_norm_out": "encoder.norm_out",
    "encoder.mid_block.resnets.0": "encoder.mid.block_1",
    "encoder.mid_block.attentions.0": "encoder.mid.attn_1",
    "encoder.mid_block.resnets.1": "encoder.mid.block_2",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def ldm_unet_name(name: str, config: Mapping[str, Any]) -> str:
    """Translate the name of a UNet tensor from diffusers to LDM.

    Args:
        name: for example ``down_blocks.0.resnets.1.conv1.weight``
        config: UNet2DConditionModel's config

    Returns:
        for example ``input_blocks.2.0.in_layers.2.weight``
    """
    block = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", name)
    if block is None:
        name = _replace_start(name, _UNET_FIXED)
        return re.sub(r"^(middle_block\.[02])\.(\w+)", lambda m: f"{m[1]}.{_UNET_RESNET[m[2]]}", name)
    path, index, kind, layer, rest = block[1], int(block[2]), block[3], int(block[4]), block[5]
    layers = config["layers_per_block"] + 1
    if kind == "downsamplers":
        return f"input_blocks.{(index + 1) * layers}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        place = 2 if config["up_block_types"][index].startswith("CrossAttn") else 1
        return f"output_blocks.{(index + 1) * layers - 1}.{place}.{rest}"
    number = index * layers + layer + (path == "down")
    stem = f"{'input' if path == 'down' else 'output'}_blocks.{number}.{0 if kind == 'resnets' else 1}"
    return f"{stem}.{_replace_start(rest, _UNET_RESNET) if kind == 'resnets' else rest}"


def ldm_vae_name(name: str) -> str:
    """Translate the name of a VAE encoder tensor from diffusers to LDM.

    Args:
        name: for example ``encoder.down_blocks.1.resnets.0.conv_shortcut.weight``

    Returns:
        for example ``encoder.down.1.block.0.nin_shortcut.weight``
    """
    name = _replace_start(name, _VAE_FIXED)
    name = re.sub(r"^encoder\.down_blocks\.(\d+)\.resnets\.", r"encoder.down.\1.block.", name)
    name = re.sub(r"^encoder\.down_blocks\.(\d+)\.downsamplers\.0\.", r"encoder.down.\1.downsample.", name)
    prefix = "encoder.mid.attn_1."
    if name.startswith(prefix):
        name = prefix + _replace_start(name.removeprefix(prefix), _VAE_ATTENTION)
    return name.replace("conv_shortcut", "nin_shortcut")


def _replace_start(name: str, table: dict[str, str]) -> str:
    for ours, theirs in table.items():
        if name.startswith(ours + "."):
            return theirs + name[len(ours) :]
    return name
