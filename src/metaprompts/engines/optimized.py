"""The model, with everything that depends only on its weights precomputed. Nothing is approximated by default.

It has three parts, so that an engine can compile each once and run the second K times: `encode` (image to latent),
`unet_step` (one step), `decode` (pyramid to raw output). The forward pass of the UNet is `PyramidUNet`'s own: only its
layers are replaced with layers whose ``time`` and ``prompts`` arguments are the precomputed values.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from metaprompts.engines.fused_layers import (
    KeyedCrossAttention,
    ShiftedResidual,
    doubling_convolution,
    fold_batch_norms,
    folded_convolution,
    key_value_layer,
    merged,
    replace_layers,
    shift_of,
)
from metaprompts.engines.token_merging import merge_tokens
from metaprompts.errors import InputError
from metaprompts.models.model import MetaPromptModel
from metaprompts.modules.backbone import LatentEncoder, PyramidUNet
from metaprompts.modules.backbone.distilled_encoder import SmallEncoder
from metaprompts.modules.backbone.second_encoder import SecondEncoder, with_maps
from metaprompts.modules.backbone.tiled_vae import StripEncoder
from metaprompts.modules.meta_prompts import CaptionPrompts, LabelPrompts, MetaPrompts
from metaprompts.tasks import Task
from metaprompts.utils.torch_modules import sharing_weights

PARTS = ("encode", "unet_step", "decode")
"""The names of the three parts."""


class Parts(Protocol):
    """The three parts of a prediction, as torch or another runtime executes them; see `OptimizedModel`."""

    @property
    def encode(self) -> Callable[[Tensor], Sequence[Tensor]]:
        """(B, 3, H, W) in [0, 1], at the backbone's input size -> latent (B, 4, h, w), and maps of a second encoder."""

    @property
    def unet_step(self) -> Callable[[Tensor, Tensor, Tensor], Sequence[Tensor]]:
        """Latent, shifts (1, S), keys and values (1 or B, N, P) -> the pyramid, finest first, and the next latent."""

    @property
    def decode(self) -> Callable[[Sequence[Tensor], Tensor, Tensor], Tensor]:
        """Pyramid, prompts (1 or B, N, D), images (B, 3, H, W) -> raw output for images of that size."""


@dataclass(frozen=True)
class StepConditions:
    """The conditioning of the steps, which depends on the weights, and on the caption if there is one.

    Attributes:
        shifts: (K, 1, S), each step's time vector as shifts of the channels of all residual layers
        keys_values: K tensors (1 or B, N, P), each step's prompts as keys and values of all cross-attentions
        decode_prompts: K tensors (1 or B, N, D), the prompts for decoding the pyramid of each step
    """

    shifts: Tensor
    keys_values: Sequence[Tensor]
    decode_prompts: Sequence[Tensor]

    @property
    def prompts(self) -> Tensor:
        """(1 or B, N, D), the prompts for decoding the last pyramid."""
        return self.decode_prompts[-1]


def with_encode(parts: Parts, encode: Callable[[Tensor], Sequence[Tensor]]) -> Parts:
    """The parts with another ``encode``."""
    return SimpleNamespace(encode=encode, unet_step=parts.unet_step, decode=parts.decode)


def intercepted(parts: Parts, call: Callable[..., Any]) -> Parts:
    """Parts whose calls are replaced by ``call(name, the part, *its arguments)``."""
    replaced: Any = SimpleNamespace(**{name: partial(call, name, getattr(parts, name)) for name in PARTS})
    return replaced  # type: ignore[no-any-return]


def run(parts: Parts, task: Task, images: Tensor, conditioning: StepConditions) -> Tensor:
    """Run the three parts, and decode the last step's pyramid.

    Args:
        parts: executes the three parts
        task: resizes images to the backbone's input size
        images: (B, 3, H, W) RGB float in [0, 1]
        conditioning: conditioning of each step

    Returns:
        raw output, see `MetaPromptModel.forward`
    """
    *_, pyramid = pyramids(parts, task, images, conditioning)
    return parts.decode(pyramid, conditioning.prompts, images)


def pyramids(parts: Parts, task: Task, images: Tensor, conditioning: StepConditions) -> Iterator[Sequence[Tensor]]:
    """Yield the pyramid of each step; arguments as for `run`."""
    latent, *maps = parts.encode(task.resize_for_backbone(images))
    for shifts, keys_values in zip(conditioning.shifts, conditioning.keys_values, strict=True):
        # Slices, because torch.jit cannot trace lists.
        seen = parts.unet_step(latent, shifts, keys_values)
        yield with_maps(seen[:-1], maps)
        latent = seen[-1]


class OptimizedModel(nn.Module):
    """A model for prediction only. It shares unchanged weights with the original model.

    Precomputed: each step's prompts, their keys and values for every cross-attention, and the shifts of every residual
    layer by each step's time vector. Folded: the VAE's unused half of the moments, batch norms, low-rank updates, and
    nearest-neighbor upsampling with the convolution after it.

    Args:
        model: the model to prepare
        steps: refinement steps, if fewer than K (an approximation)
        merged_tokens: fraction of the finest level's tokens to merge in self-attention, up to 0.75 (an approximation)
        encoder: a distilled encoder to use instead of the VAE's (an approximation)

    Raises:
        InputError: the model has fewer steps, the UNet has layers that use the time embedding differently, the fraction
            is invalid, or the encoder was distilled from a different VAE

    Attributes:
        encode, unet_step, decode: see `Parts`
        conditions: (B, context or None) -> the conditioning of the steps
    """

    def __init__(
        self,
        model: MetaPromptModel,
        steps: int | None = None,
        *,
        merged_tokens: float = 0.0,
        encoder: SmallEncoder | None = None,
    ) -> None:
        super().__init__()
        trained = model.config.refinement.steps
        steps = trained if steps is None else steps
        if not 1 <= steps <= trained:
            raise InputError(f"{steps} refinement steps requested, but the model has {trained}: give 1 to {trained}")
        self.task = model.task
        latent_encoder = model.latent_encoder
        self.encode = Encoders(
            Encode(latent_encoder) if encoder is None else encoder.in_place_of(latent_encoder), model.second_encoder
        )
        unet = sharing_weights(model.unet)
        shifts = _give_shifts(unet, list(model.refinement.time), steps)
        self.conditions = Conditions(
            shifts, model.prompts, _take_keys_values(unet), supervised=model.config.supervised_steps
        )
        merge_tokens(unet, merged_tokens)
        replace_layers(unet, Upsample2D, doubling_convolution)
        self.unet_step = UNetStep(unet, model.refinement.next_latent)
        self.decode = Decode(sharing_weights(model.rearrangement), sharing_weights(model.head))
        self.eval()

    @torch.no_grad()
    def forward(self, images: Tensor, context: Tensor | None = None) -> Tensor:
        """Predict; arguments and result as for `MetaPromptModel.forward`."""
        return run(self, self.task, images, self.conditions(len(images), context))


class Conditions(nn.Module):
    """Computes the conditioning of the steps, see `StepConditions`; without captions, it is computed only once.

    Args:
        shifts: (K, 1, S)
        prompts: the model's prompts
        to_keys_values: for each cross-attention, the layer that maps prompts (..., N, D) to keys and values (..., N, 2
            C)
        supervised: whether rearrangement and head were trained on each step with its own prompts, not only on the last
    """

    shifts: Tensor

    def __init__(
        self,
        shifts: Tensor,
        prompts: MetaPrompts | LabelPrompts | CaptionPrompts,
        to_keys_values: nn.ModuleList,
        *,
        supervised: bool,
    ) -> None:
        super().__init__()
        self.register_buffer("shifts", shifts, persistent=False)
        self.prompts = prompts
        self.to_keys_values = to_keys_values
        self._supervised = supervised
        self._once: StepConditions | None = None

    @torch.no_grad()
    def forward(self, batch: int, context: Tensor | None) -> StepConditions:
        """The conditioning of the steps.

        Args:
            batch: batch size, B
            context: (B, N, D), if the prompts are captions; else None
        """
        if isinstance(self.prompts, CaptionPrompts) or context is not None:
            # This call rejects an unexpected context.
            conditioning = None if context is None else context.to(self.shifts.dtype)
            return self._conditioning(self.prompts(batch, conditioning))
        if self._once is None:
            self._once = self._conditioning(self.prompts(1))
        return self._once

    def _conditioning(self, prompts: Sequence[Tensor]) -> StepConditions:
        of_steps = prompts[: len(self.shifts)]
        # Steps often share their prompts.
        made = {id(each): torch.cat([layer(each) for layer in self.to_keys_values], dim=-1) for each in of_steps}
        decoding = of_steps if self._supervised else [prompts[-1]] * len(of_steps)
        return StepConditions(self.shifts, [made[id(each)] for each in of_steps], list(decoding))


class Encode(nn.Module):
    """The VAE's encoder without the unused half of its last layers."""

    def __init__(self, encoder: LatentEncoder) -> None:
        super().__init__()
        self.layers = sharing_weights(encoder.encoder)
        last: nn.Conv2d = encoder.encoder.conv_out
        self.layers.conv_out = folded_convolution(last, encoder.quant_conv, last.out_channels // 2)
        self.scale = encoder.scale
        self.stride = encoder.stride

    def forward(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) in [0, 1] as latents (B, 4, H // 8, W // 8)."""
        latent: Tensor = self.layers(images * 2 - 1)
        return latent if self.scale == 1 else latent * self.scale

    def in_strips(self, rows: int) -> "Encode":
        """The same encoder, run in strips of ``rows`` (at least 1) in every map; latents are equal up to rounding.

        Raises:
            InputError: the height is invalid, or the encoder's layers differ from those of Stable Diffusion
        """
        strips = sharing_weights(self)
        strips.layers = StripEncoder(strips.layers, rows)
        return strips


class Encoders(nn.Module):
    """The encoder of latents, and the second encoder, if there is one.

    Args:
        latent: images to latents
        second: the second encoder, whose weights are shared and whose cache is not used
    """

    def __init__(self, latent: Encode | SmallEncoder | LatentEncoder, second: SecondEncoder | None) -> None:
        super().__init__()
        self.latent = latent
        # Pixels along a side of a latent pixel.
        self.stride = latent.stride
        self.second = None if second is None else sharing_weights(second)
        if self.second is not None:
            self.second.cache = None

    def in_strips(self, rows: int) -> "Encoders":
        """The same encoders, with the VAE's run in strips of ``rows``; see `Encode.in_strips`."""
        # A small encoder needs no strips, because its maps have few channels.
        return Encoders(self.latent.in_strips(rows), self.second) if isinstance(self.latent, Encode) else self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode images (B, 3, H, W) in [0, 1] as latents (B, 4, H // 8, W // 8) and maps, see `SecondEncoder`."""
        return self.latent(images), *([] if self.second is None else self.second(images))


class UNetStep(nn.Module):
    """One step: the UNet with prepared layers."""

    def __init__(self, unet: PyramidUNet, next_latent: Callable[[PyramidUNet, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.unet, self._next_latent = unet, next_latent

    def forward(self, latent: Tensor, shifts: Tensor, keys_values: Tensor) -> tuple[Tensor, ...]:
        """Latent (B, 4, h, w) -> the pyramid, finest first, and the next latent (unchanged if K = 1)."""
        pyramid = self.unet(latent, shifts, keys_values)
        return *pyramid, latent if self.unet.conv_out is None else self._next_latent(self.unet, pyramid[0], latent)


class Decode(nn.Module):
    """Rearrangement and head."""

    def __init__(self, rearrangement: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.rearrangement, self.head = rearrangement, head
        fold_batch_norms(self.eval())

    def forward(self, pyramid: Sequence[Tensor], prompts: Tensor, images: Tensor) -> Tensor:
        """Turn a pyramid and prompts (1 or B, N, D) into the raw output for images of the size (..., H, W)."""
        maps = self.rearrangement(pyramid, prompts.expand(pyramid[0].shape[0], -1, -1))
        return self.head(maps, (images.shape[-2], images.shape[-1]))  # type: ignore[no-any-return]


@torch.no_grad()
def _give_shifts(unet: PyramidUNet, times: Sequence[Tensor], steps: int) -> Tensor:
    """Replace a UNet's residual layers with layers that take shifts; returns the shifts of all layers, (K, 1, S)."""
    found: list[ResnetBlock2D] = []

    def exchanged(layer: ResnetBlock2D) -> ShiftedResidual:
        start = sum(each.out_channels for each in found)
        found.append(layer)
        return ShiftedResidual(layer, slice(start, start + layer.out_channels))

    replace_layers(unet, ResnetBlock2D, exchanged)
    of_times = [torch.cat([shift_of(layer, time) for layer in found], dim=1) for time in times]
    return torch.stack([of_times[step % len(times)] for step in range(steps)])


@torch.no_grad()
def _take_keys_values(unet: PyramidUNet) -> nn.ModuleList:
    """Replace a UNet's cross-attentions with layers that take keys and values; returns layers that compute both."""
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
