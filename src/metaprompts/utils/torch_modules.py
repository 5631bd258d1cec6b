"""Copy modules, and set their mode and memory format."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def channels_last(module: Module) -> Module:
    """Convert filters to channels last, which is faster on most processors; values do not change."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def sharing_weights(module: Module, dtype: torch.dtype | None = None) -> Module:
    """A copy that shares the module's tensors; adding layers to the copy does not affect the module.

    Args:
        module: the module, which is not changed
        dtype: precision of the copy's tensors; tensors of other precision are converted one by one instead of shared
    """
    own = {id(tensor): _in_precision(tensor, dtype) for tensor in chain(module.parameters(), module.buffers())}
    return copy.deepcopy(module, own)


def _in_precision(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    if dtype is None or tensor.dtype == dtype or not tensor.is_floating_point():
        return tensor
    converted = tensor.detach().to(dtype)
    return nn.Parameter(converted, requires_grad=False) if isinstance(tensor, nn.Parameter) else converted


@contextmanager
def eval_mode(*models: Any) -> Iterator[None]:
    """Set models to evaluation mode, and restore their mode afterwards.

    Args:
        models: modules, or other objects with ``training`` and ``train``
    """
    modes = [model.training for model in models]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for model, mode in zip(models, modes, strict=True):
            model.train(mode)
