"""PyTorch, operation by operation."""

from collections.abc import Sequence

import torch
from torch import Tensor

from metaprompts.runtime.prepared import PreparedModel


class EagerParts:
    """A prepared model's own layers, in the memory order that convolutions are fastest in.

    Args:
        prepared: its weights, which are the model's, are brought into that order in place
        dtype: what is computed in, if not the weights' own type
    """

    def __init__(self, prepared: PreparedModel, dtype: torch.dtype) -> None:
        # torch.channels_last is a memory order, not a shape: no number changes.
        self._prepared = prepared.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._dtype = dtype

    def encode(self, images: Tensor) -> Tensor:
        """Pictures to latents."""
        ordered = images.to(self._dtype).contiguous(memory_format=torch.channels_last)
        return self._prepared.encode(ordered)  # type: ignore[no-any-return]

    def look(self, latent: Tensor, shifts: Tensor, keys_values: Tensor) -> list[Tensor]:
        """One step."""
        return self._prepared.look(latent, shifts.to(self._dtype), keys_values.to(self._dtype))  # type: ignore[no-any-return]

    def finish(self, pyramid: Sequence[Tensor], prompts: Tensor, images: Tensor) -> Tensor:
        """Pyramid to raw output."""
        return self._prepared.finish(pyramid, prompts.to(self._dtype), images)  # type: ignore[no-any-return]
