"""PyTorch, operation by operation."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from metaprompts.backbone import LatentEncoder
from metaprompts.backbone.lora import sharing_weights
from metaprompts.memory_order import channels_last
from metaprompts.runtime.layers import ShiftedResidual
from metaprompts.runtime.prepared import Encode, PreparedModel
from metaprompts.runtime.strips import StripEncode

_TRIALS, _SIDE = 5, 32
_WORTH_ORDERING = 0.9


class EagerParts:
    """A prepared model's own layers, in the memory order that convolutions are fastest in.

    Args:
        prepared: its weights, which are the model's, are brought into that order in place; in another precision they
            are copied
        dtype: what is computed in
        encoder: the model's own, whose strips are taken over
    """

    def __init__(self, prepared: PreparedModel, dtype: torch.dtype, encoder: LatentEncoder) -> None:
        self._prepared = sharing_weights(prepared, dtype)
        self._pixels = torch.contiguous_format
        on_cpu = prepared.conditions.shifts.device.type == "cpu"
        if not on_cpu or channels_last_helps(self._prepared.look.unet):
            channels_last(self._prepared.look)
            channels_last(self._prepared.finish)
            # On a CPU PyTorch's group norms sum the encoder's large maps less exactly then: 20 times the rounding of
            # the latent, which the steps amplify.
            if not on_cpu or dtype != torch.float32:
                channels_last(self._prepared.encode)
                self._pixels = torch.channels_last
        self._dtype = dtype
        self._encoder = encoder

    def encode(self, images: Tensor) -> Tensor:
        """Pictures to latents."""
        ordered = images.to(self._dtype).contiguous(memory_format=self._pixels)
        rows = self._encoder.rows
        encode = self._prepared.encode
        # A small encoder needs no strips: its maps are narrow.
        if rows is not None and isinstance(encode, Encode):
            return StripEncode(encode, rows)(ordered)  # type: ignore[no-any-return]
        return self._execute("encode", ordered)  # type: ignore[no-any-return]

    def look(self, latent: Tensor, shifts: Tensor, keys_values: Tensor) -> Sequence[Tensor]:
        """One step."""
        return self._execute("look", latent, shifts.to(self._dtype), keys_values.to(self._dtype))  # type: ignore[no-any-return]

    def finish(self, pyramid: Sequence[Tensor], prompts: Tensor, images: Tensor) -> Tensor:
        """Pyramid to raw output."""
        return self._execute("finish", pyramid, prompts.to(self._dtype), images)  # type: ignore[no-any-return]

    def _execute(self, part: str, *arguments: Any) -> Any:
        """What a part, of `PARTS`, makes of its arguments."""
        return getattr(self._prepared, part)(*arguments)


@torch.no_grad()
def channels_last_helps(unet: nn.Module) -> bool:
    """Whether this processor is noticeably faster with channels last; some are, some are not, so it is tried.

    Args:
        unet: a prepared one; its first residual layer is what is tried
    """
    layer = next(each for each in unet.modules() if isinstance(each, ShiftedResidual))
    weight = layer.conv1.weight
    features, shifts = weight.new_ones(1, weight.shape[1], _SIDE, _SIDE), weight.new_zeros(1, layer.slot.stop)
    ordered = channels_last(sharing_weights(layer))
    operands = [(layer, features), (ordered, features.contiguous(memory_format=torch.channels_last))]
    # In turn, and the fastest of each: other work on the machine makes both slower.
    seconds = [[_seconds(tried, given, shifts) for tried, given in operands] for _ in range(_TRIALS)]
    as_they_are, last = map(min, zip(*seconds, strict=True))
    return bool(last < _WORTH_ORDERING * as_they_are)


def _seconds(layer: nn.Module, features: Tensor, shifts: Tensor) -> float:
    started = time.perf_counter()
    layer(features, shifts)
    return time.perf_counter() - started
