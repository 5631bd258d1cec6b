"""PyTorch's own compiler."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from metaprompts.backbone import LatentEncoder
from metaprompts.runtime.eager import EagerParts
from metaprompts.runtime.prepared import PreparedModel


class CompiledParts(EagerParts):
    """Each part compiled at its first call with a new size; PyTorch keeps its own cache of that on disk.

    Args:
        prepared: as for `EagerParts`
        dtype: what is computed in
        encoder: the model's own
    """

    def __init__(self, prepared: PreparedModel, dtype: torch.dtype, encoder: LatentEncoder) -> None:
        super().__init__(prepared, dtype, encoder)
        self._is_cpu = prepared.conditions.shifts.device.type == "cpu"
        self._compiled: dict[str, Callable[..., Any]] = {
            part: torch.compile(getattr(self._prepared, part), dynamic=False) for part in ("encode", "look", "finish")
        }

    def encode(self, images: Tensor) -> Tensor:
        """Pictures to latents."""
        with self._frozen():
            ordered = images.to(self._dtype).contiguous(memory_format=torch.channels_last)
            return self._compiled["encode"](ordered)  # type: ignore[no-any-return]

    def look(self, latent: Tensor, shifts: Tensor, keys_values: Tensor) -> list[Tensor]:
        """One step."""
        with self._frozen():
            return self._compiled["look"](latent, shifts.to(self._dtype), keys_values.to(self._dtype))  # type: ignore[no-any-return]

    def finish(self, pyramid: Sequence[Tensor], prompts: Tensor, images: Tensor) -> Tensor:
        """Pyramid to raw output."""
        with self._frozen():
            return self._compiled["finish"](list(pyramid), prompts.to(self._dtype), images)  # type: ignore[no-any-return]

    def _frozen(self) -> AbstractContextManager[Any]:
        """On a CPU weights are constants, so that they can be laid out for the kernels once."""
        import torch._inductor.config as settings

        return settings.patch(freezing=True) if self._is_cpu else nullcontext()
