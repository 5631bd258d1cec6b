"""Activation checkpointing of layers with batch norm."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

T = TypeVar("T")


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
