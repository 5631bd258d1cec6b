"""PyTorch's own compiler."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from metaprompts.backbone import LatentEncoder
from metaprompts.runtime.eager import EagerParts
from metaprompts.runtime.exporting import PARTS
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
            part: torch.compile(getattr(self._prepared, part), dynamic=False) for part in PARTS
        }

    def _execute(self, part: str, *arguments: Any) -> Any:
        with self._frozen():
            return self._compiled[part](*arguments)

    def _frozen(self) -> AbstractContextManager[Any]:
        """On a CPU weights are constants, so that they can be laid out for the kernels once."""
        import torch._inductor.config as settings

        return settings.patch(freezing=True) if self._is_cpu else nullcontext()
