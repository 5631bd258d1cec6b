"""PyTorch in eager mode."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from metaprompts.engines.optimized import OptimizedModel
from metaprompts.modules.backbone import LatentEncoder
from metaprompts.utils.torch_modules import channels_last, sharing_weights


class EagerParts:
    """A prepared model's own layers, in the fastest memory format for convolutions.

    Args:
        prepared: the prepared model, whose weights are shared with the model and reordered in place, or copied if the
            precision differs
        dtype: compute precision
        encoder: the model's own encoder, whose strip setting is used
    """

    def __init__(self, prepared: OptimizedModel, dtype: torch.dtype, encoder: LatentEncoder) -> None:
        self._prepared = sharing_weights(prepared, dtype)
        self._pixels = torch.contiguous_format
        # Each memory format rounds differently, so the choice must be the same in every run, not based on timing.
        # In single precision, channels last is not faster on a CPU, and makes PyTorch's group norms sum the encoder's
        # large maps less exactly: the latent's rounding error is 20 times as large, and the steps amplify it.
        if prepared.conditions.shifts.device.type != "cpu" or dtype != torch.float32:
            for part in (self._prepared.encode, self._prepared.unet_step, self._prepared.decode):
                channels_last(part)
            self._pixels = torch.channels_last
        self._dtype = dtype
        self._encoder = encoder

    def encode(self, images: Tensor) -> Sequence[Tensor]:
        """Images to latents and maps."""
        ordered = images.to(self._dtype).contiguous(memory_format=self._pixels)
        rows = self._encoder.rows
        if rows is not None:
            return self._prepared.encode.in_strips(rows)(ordered)  # type: ignore[no-any-return]
        return self._execute("encode", ordered)  # type: ignore[no-any-return]

    def unet_step(self, latent: Tensor, shifts: Tensor, keys_values: Tensor) -> Sequence[Tensor]:
        """One step."""
        return self._execute("unet_step", latent, shifts.to(self._dtype), keys_values.to(self._dtype))  # type: ignore[no-any-return]

    def decode(self, pyramid: Sequence[Tensor], prompts: Tensor, images: Tensor) -> Tensor:
        """Pyramid to raw output."""
        return self._execute("decode", pyramid, prompts.to(self._dtype), images)  # type: ignore[no-any-return]

    def _execute(self, part: str, *arguments: Any) -> Any:
        """The outputs of a part (of `PARTS`) for its arguments."""
        return getattr(self._prepared, part)(*arguments)
