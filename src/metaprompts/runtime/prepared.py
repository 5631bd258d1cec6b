"""The model with all that depends on its weights alone computed beforehand. Nothing is approximated.

It has three parts, so that an engine can compile each once and run the second K times: `encode` (picture to latent),
`look` (one step), `finish` (pyramid to raw output). The walk through the UNet is `PyramidUNet`'s own: only its layers
are exchanged for such as read from ``time`` and ``prompts`` what theirs would have made of them.
"""

from collections.abc import Callable, Sequence

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from metaprompts.backbone import LatentEncoder, PyramidUNet
from metaprompts.backbone.lora import sharing_weights
from metaprompts.errors import InputError
from metaprompts.model import MetaPromptModel
from metaprompts.runtime.layers import (
    KeyedCrossAttention,
    ShiftedResidual,
    doubling_convolution,
    fold_batch_norms,
    folded_convolution,
    key_value_layer,
    merged,
    shift_of,
)


class PreparedModel(nn.Module):
    """A model for prediction only. It shares with the model it is made of what it need not change.

    Computed once: each step's prompts, their keys and values for every cross-attention, and by how much each step's
    time vector shifts every residual layer. Folded: the VAE's moments of which half is not used, batch norms, low-rank
    changes, and nearest-neighbour doubling with the convolution after it.

    Args:
        model: what to prepare
        steps: how often to look, if fewer times than K; that approximates

    Raises:
        InputError: there are not so many steps, or the UNet has layers that read time in another way

    Attributes:
        encode: (B, 3, H, W) in [0, 1], of the size that the backbone shall see -> latent (B, 4, h, w)
        look: latent, shifts (1, S), keys and values (1 or B, N, P) -> the pyramid, finest first, and the next latent
        finish: pyramid, prompts (1 or B, N, D), (H, W) -> raw output
    """

    shifts: Tensor

    def __init__(self, model: MetaPromptModel, steps: int | None = None) -> None:
        super().__init__()
        trained = model.config.refinement.steps
        self.steps = trained if steps is None else steps
        if not 1 <= self.steps <= trained:
            raise InputError(f"{self.steps} steps were asked for, but the model has {trained}: give 1 to {trained}")
        self.task = model.task
        self.per_picture = model.config.prompts.kind == "caption"
        self.encode = Encode(model.latent_encoder)
        unet = sharing_weights(model.unet)
        self.register_buffer("shifts", _give_shifts(unet, list(model.refinement.time), self.steps), persistent=False)
        self.prompts = model.prompts
        self.to_keys_values = _take_keys_values(unet)
        _replace(unet, Upsample2D, doubling_convolution)
        self.look = Look(unet)
        self.finish = Finish(sharing_weights(model.rearrangement), sharing_weights(model.head))
        self.eval()
        self._fixed: tuple[list[Tensor], Tensor] | None = None

    @torch.no_grad()
    def conditions(self, batch: int, context: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """What the steps are told of the prompts.

        Args:
            batch: B, of pictures with captions; other prompts are the same for every picture
            context: (B, N, D), where the prompts are captions; else None

        Returns:
            keys and values of all layers (1 or B, N, P) for each step, and the last step's prompts (1 or B, N, D)
        """
        if self.per_picture:
            return self._conditions(batch, context)
        # A context that is not wanted is refused by the prompts.
        if self._fixed is None or context is not None:
            self._fixed = self._conditions(1, context)
        return self._fixed

    def _conditions(self, batch: int, context: Tensor | None) -> tuple[list[Tensor], Tensor]:
        prompts = self.prompts(batch, context)[: self.steps]
        made: dict[int, Tensor] = {}
        for each in prompts:
            if id(each) not in made:
                made[id(each)] = torch.cat([layer(each) for layer in self.to_keys_values], dim=-1)
        return [made[id(each)] for each in prompts], prompts[-1]

    @torch.no_grad()
    def forward(self, images: Tensor, context: Tensor | None = None) -> Tensor:
        """Predict; arguments and result as for `MetaPromptModel.forward`."""
        keys_values, prompts = self.conditions(len(images), context)
        latent = self.encode(self.task.fit(images))
        pyramid: Sequence[Tensor] = ()
        for step in range(self.steps):
            *pyramid, latent = self.look(latent, self.shifts[step], keys_values[step])
        return self.finish(pyramid, prompts, (images.shape[-2], images.shape[-1]))  # type: ignore[no-any-return]


class Encode(nn.Module):
    """The VAE's encoder without the half of its last layers that is not used."""

    def __init__(self, encoder: LatentEncoder) -> None:
        super().__init__()
        self.layers = sharing_weights(encoder.encoder)
        last: nn.Conv2d = encoder.encoder.conv_out
        self.layers.conv_out = folded_convolution(last, encoder.quant_conv, last.out_channels // 2)
        self.scale = encoder.scale

    def forward(self, images: Tensor) -> Tensor:
        """Encode pictures (B, 3, H, W) in [0, 1] as latents (B, 4, H // 8, W // 8)."""
        latent: Tensor = self.layers(images * 2 - 1)
        return latent if self.scale == 1 else latent * self.scale


class Look(nn.Module):
    """One step: the UNet with prepared layers."""

    def __init__(self, unet: PyramidUNet) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, latent: Tensor, shifts: Tensor, keys_values: Tensor) -> list[Tensor]:
        """Look at a latent (B, 4, h, w): the pyramid, finest first, and the next latent (the same one where K = 1)."""
        pyramid = self.unet(latent, shifts, keys_values)
        return [*pyramid, latent if self.unet.conv_out is None else self.unet.to_latent(pyramid[0])]


class Finish(nn.Module):
    """Rearrangement and head."""

    def __init__(self, rearrangement: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.rearrangement, self.head = rearrangement, head
        fold_batch_norms(self)

    def forward(self, pyramid: Sequence[Tensor], prompts: Tensor, size: tuple[int, int]) -> Tensor:
        """Turn a pyramid and prompts (1 or B, N, D) into the raw output for pictures of a size (H, W)."""
        prompts = prompts.expand(len(pyramid[0]), -1, -1)
        return self.head(self.rearrangement(pyramid, prompts), size)  # type: ignore[no-any-return]


@torch.no_grad()
def _give_shifts(unet: PyramidUNet, times: Sequence[Tensor], steps: int) -> Tensor:
    """Exchange a UNet's residual layers for such as are given their shifts; those of all layers, (K, 1, S)."""
    found: list[ResnetBlock2D] = []

    def exchanged(layer: ResnetBlock2D) -> ShiftedResidual:
        start = sum(each.out_channels for each in found)
        found.append(layer)
        return ShiftedResidual(layer, slice(start, start + layer.out_channels))

    _replace(unet, ResnetBlock2D, exchanged)
    of_times = [torch.cat([shift_of(layer, time) for layer in found], dim=1) for time in times]
    return torch.stack([of_times[step % len(times)] for step in range(steps)])


@torch.no_grad()
def _take_keys_values(unet: PyramidUNet) -> nn.ModuleList:
    """Exchange a UNet's cross-attentions for such as are given keys and values; what makes these of prompts."""
    makers = nn.ModuleList()
    for block in [each for each in unet.modules() if isinstance(each, BasicTransformerBlock)]:
        start = sum(maker.out_features for maker in makers)  # type: ignore[misc]
        maker = key_value_layer(block.attn2)
        makers.append(maker)
        block.attn2 = KeyedCrossAttention(block.attn2, slice(start, start + maker.out_features))
        for name in ("to_q", "to_k", "to_v"):
            setattr(block.attn1, name, merged(getattr(block.attn1, name)))
        block.attn1.to_out[0] = merged(block.attn1.to_out[0])
    return makers


def _replace(module: nn.Module, kind: type[nn.Module], exchanged: Callable[..., nn.Module]) -> None:
    """Exchange all layers of a kind, in the order of `nn.Module.modules`."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kind):
                setattr(parent, name, exchanged(child))
