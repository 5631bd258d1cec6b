"""PyTorch's own compiler."""

import logging
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch._inductor.exc import InductorError

from metaprompts.engines.eager import EagerParts
from metaprompts.engines.optimized import PARTS, OptimizedModel
from metaprompts.modules.backbone import LatentEncoder

_logger = logging.getLogger(__name__)


class CompiledParts(EagerParts):
    """Parts that are compiled at the first call with a new size; PyTorch keeps its own disk cache.

    Args:
        prepared: as for `EagerParts`
        dtype: compute precision
        encoder: the model's own encoder
    """

    def __init__(self, prepared: OptimizedModel, dtype: torch.dtype, encoder: LatentEncoder) -> None:
        super().__init__(prepared, dtype, encoder)
        self._is_cpu = prepared.conditions.shifts.device.type == "cpu"
        self._compiled: dict[str, Callable[..., Any]] = {
            part: torch.compile(getattr(self._prepared, part), dynamic=False) for part in PARTS
        }

    def _execute(self, part: str, *arguments: Any) -> Any:
        removed: set[str] = set()
        with self._frozen():
            while True:
                try:
                    return self._compiled[part](*arguments)
                except InductorError as error:
                    removed.add(_remove_damaged(error, removed))

    def _frozen(self) -> AbstractContextManager[Any]:
        """On a CPU, weights are constants, so that they can be reordered for the kernels once."""
        import torch._inductor.config as settings

        return settings.patch(freezing=True) if self._is_cpu else nullcontext()


def _remove_damaged(error: InductorError, removed: Collection[str]) -> str:
    """Remove a compiled file that cannot be loaded, for example after its writer was killed; returns its path.

    PyTorch keeps such files forever, but recreates missing ones.

    Raises:
        InductorError: the error has another cause, or removing the file did not help
    """
    inner = error.inner_exception
    if not isinstance(inner, ImportError) or inner.path is None or inner.path in removed:
        raise error
    _logger.warning("%s in PyTorch's cache is damaged: compiling again", inner.path)
    Path(inner.path).unlink(missing_ok=True)
    return inner.path
