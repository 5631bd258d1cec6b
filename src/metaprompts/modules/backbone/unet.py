"""The denoising UNet, run block by block to yield a feature pyramid (paper section 3.1)."""

from collections.abc import Iterator
from itertools import zip_longest

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from metaprompts.errors import InputError

_DOWN_BLOCKS = {"CrossAttnDownBlock2D", "DownBlock2D"}
_UP_BLOCKS = {"CrossAttnUpBlock2D", "UpBlock2D"}
# Distilled UNets have a middle block without attention (SSD-1B), or none (BK-SDM, tiny-sd).
_MID_BLOCKS = {"UNetMidBlock2DCrossAttn", "UNetMidBlock2D", None}


class PyramidUNet(nn.Module):
    """The layers of diffusers' UNet with our own forward pass.

    Differs from diffusers' own forward in three ways: a learned vector replaces the time MLP's output, the
    four levels of the up path are returned, and a skip whose size does not match is resized to the upsampled map
    (as in the released code; not needed for sizes that are multiples of 64). The time MLP is not part of this module.

    Args:
        unet: any Stable Diffusion UNet made of plain and cross-attention blocks; its layers are shared, not copied
        refines: whether the output is fed back. If not, the output layers would get no gradient, so they are omitted,
            and `to_latent` raises an error.

    Raises:
        InputError: the UNet has block types that this class does not support
    """

    def __init__(self, unet: UNet2DConditionModel, *, refines: bool) -> None:
        super().__init__()
        _check_fits(unet, refines=refines)
        self.conv_in = unet.conv_in
        self.down_blocks = unet.down_blocks
        self.mid_block = unet.mid_block
        self.up_blocks = unet.up_blocks
        self.conv_norm_out = unet.conv_norm_out if refines else None
        self.conv_out = unet.conv_out if refines else None
        self.gradient_checkpointing = False

        widths = tuple(unet.config.block_out_channels)
        # The coarsest up block is as wide as the deepest level, so the list holds the levels' widths, finest first.
        self.channels: tuple[int, ...] = widths
        self.time_channels: int = unet.down_blocks[0].resnets[0].time_emb_proj.in_features
        self.prompt_channels: int = unet.config.cross_attention_dim

    def forward(self, latent: Tensor, time: Tensor, prompts: Tensor) -> list[Tensor]:
        """Run one refinement step on the latent.

        Args:
            latent: (B, 4, h, w)
            time: (1, T) or (B, T), used as the output of the time MLP
            prompts: (B, N, D), the cross-attention context

        Returns:
            The pyramid, finest first: (B, C_l, h / 2^l, w / 2^l) for l = 0, 1, 2, ... If h or w
                cannot be halved evenly, every level is twice as large as the next coarser one.
        """
        hidden = self.conv_in(latent)
        skips = [hidden]
        for block in self.down_blocks:
            for resnet, attention in _layers(block):
                hidden = self._layer(resnet, attention, hidden, time, prompts)
                skips.append(hidden)
            for downsampler in block.downsamplers or ():
                hidden = downsampler(hidden)
                skips.append(hidden)

        hidden = self._middle(hidden, time, prompts)

        pyramid = []
        for index, block in enumerate(self.up_blocks):
            tapped = tapped_layer(block)
            for layer, (resnet, attention) in enumerate(_layers(block)):
                skip = _resize_to(skips.pop(), hidden)
                hidden = self._layer(resnet, attention, torch.cat([hidden, skip], dim=1), time, prompts)
                if layer == tapped and index < len(self.up_blocks) - 1:
                    pyramid.append(hidden)
            for upsampler in block.upsamplers or ():
                hidden = upsampler(hidden)
        pyramid.append(hidden)
        return pyramid[::-1]

    def to_latent(self, finest: Tensor) -> Tensor:
        """Turn the finest level into the latent of the next step.

        Args:
            finest: (B, C_0, h, w)

        Returns:
            (B, 4, h, w)
        """
        assert self.conv_norm_out is not None, "built with refines=False"
        assert self.conv_out is not None
        return self.conv_out(F.silu(self.conv_norm_out(finest)))  # type: ignore[no-any-return]

    def _middle(self, hidden: Tensor, time: Tensor, prompts: Tensor) -> Tensor:
        if self.mid_block is None:
            return hidden
        first, *others = self.mid_block.resnets
        hidden = self._layer(first, None, hidden, time, prompts)
        for attention, resnet in zip(self.mid_block.attentions, others, strict=True):
            if attention is not None:
                hidden = attention(hidden, encoder_hidden_states=prompts, return_dict=False)[0]
            hidden = self._layer(resnet, None, hidden, time, prompts)
        return hidden

    def _layer(
        self, resnet: nn.Module, attention: nn.Module | None, hidden: Tensor, time: Tensor, prompts: Tensor
    ) -> Tensor:
        def run(hidden: Tensor, time: Tensor, prompts: Tensor) -> Tensor:
            hidden = resnet(hidden, time)
            if attention is None:
                return hidden
            return attention(hidden, encoder_hidden_states=prompts, return_dict=False)[0]  # type: ignore[no-any-return]

        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(run, hidden, time, prompts, use_reentrant=False)  # type: ignore[no-any-return]
        return run(hidden, time, prompts)


def tapped_layer(block: nn.Module) -> int:
    """The layer of an up block after which its level is taken: the middle one; the released code's is 1, of 0 to 2."""
    return len(block.resnets) // 2  # type: ignore[arg-type]


def _layers(block: nn.Module) -> Iterator[tuple[nn.Module, nn.Module | None]]:
    """Pair each residual layer of a block with its attention layer, if the block has attention."""
    yield from zip_longest(block.resnets, getattr(block, "attentions", ()))  # type: ignore[arg-type]


def _resize_to(skip: Tensor, hidden: Tensor) -> Tensor:
    if skip.shape[-2:] == hidden.shape[-2:]:
        return skip
    return F.interpolate(skip, size=hidden.shape[-2:], mode="bilinear", align_corners=False)


def _check_fits(unet: UNet2DConditionModel, *, refines: bool) -> None:
    config = unet.config
    foreign = (set(config.down_block_types) - _DOWN_BLOCKS) | (set(config.up_block_types) - _UP_BLOCKS)
    if foreign:
        raise InputError(
            f"the UNet contains {', '.join(sorted(foreign))}; expected a Stable Diffusion UNet of plain and "
            "cross-attention blocks"
        )
    if config.mid_block_type not in _MID_BLOCKS:
        expected = " or ".join(sorted(kind for kind in _MID_BLOCKS if kind))
        raise InputError(f"the UNet's middle block is {config.mid_block_type}; expected {expected}, or none")
    if not isinstance(config.cross_attention_dim, int) or config.encoder_hid_dim is not None:
        raise InputError("the UNet has no single cross-attention size; expected one context width for all blocks")
    if refines and config.in_channels != config.out_channels:
        raise InputError(
            f"the UNet takes {config.in_channels} channels and outputs {config.out_channels}, so its output cannot be "
            "fed back: choose a text-to-image UNet, or set refinement.steps = 1"
        )
