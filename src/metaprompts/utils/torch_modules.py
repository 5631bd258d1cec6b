"""Copy modules, set their mode and memory format, and recompute their activations."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

T = TypeVar("T")
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


def recomputed(function: Callable[..., T], module: nn.Module, *arguments: object) -> T:
    """Call a function and recompute its activations in the backward pass instead of storing them.

    `torch.utils.checkpoint` alone would count each batch twice in the running statistics of batch norm.

    Args:
        function: the function to call
        module: module that contains every batch norm used by the function
        arguments: arguments of the function
    """
    result: T = checkpoint(
        function,
        *arguments,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _running_statistics_kept(module)),
    )
    return result


@contextmanager
def _running_statistics_kept(module: nn.Module) -> Iterator[None]:
    norms = [each for each in module.modules() if isinstance(each, _BatchNorm) and each.training]
    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        # Without running statistics, the layer would save different tensors than in the forward pass.
        norm.momentum = 0.0
        norm.num_batches_tracked = None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, momentum, count in kept:
            norm.momentum, norm.num_batches_tracked = momentum, count
