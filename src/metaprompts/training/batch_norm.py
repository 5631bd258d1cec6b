"""Batch norm statistics in training: local, synchronized or frozen."""

from itertools import pairwise
from typing import Any, Literal, Self

import torch
from torch import Tensor, distributed, nn

Statistics = Literal["local", "sync", "frozen"]


class FrozenBatchNorm(nn.BatchNorm2d):
    """Batch norm with frozen statistics, but trained weight and bias."""

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, regardless of the rest of the model."""
        del mode
        return super().train(False)


class SynchronizedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the images of all processes; each process must have the same number of images.

    PyTorch's own synchronized batch norm supports only GPUs.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Normalize (B, C, h, w)."""
        if not self.training or not distributed.is_initialized() or distributed.get_world_size() == 1:
            return super().forward(maps)
        values = maps.float()
        mean = _mean_of_all(values.mean(dim=(0, 2, 3)))
        variance = _mean_of_all((values - mean[:, None, None]).square().mean(dim=(0, 2, 3)))
        self._remember(mean, variance, values.numel() // values.shape[1] * distributed.get_world_size())
        scale = (variance + self.eps).rsqrt() * self.weight
        normalized = (values - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]
        return normalized.to(maps.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)


def configure_batch_norm(model: nn.Module, statistics: Statistics) -> None:
    """Set the mode of every batch norm of a model; names, weights and statistics are unchanged.

    If statistics are those of the pass, a bias before batch norm has no effect and is not trained: its gradient is zero
    up to rounding errors, which AdamW would amplify to full steps that differ between machines.

    Args:
        model: changed in place
        statistics: "local" (of each pass), "sync" (over all processes) or "frozen"
    """
    if statistics != "frozen":
        _leave_biases_without_effect(model)
    if statistics == "local":
        return
    if statistics == "sync" and next(model.parameters()).is_cuda:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return
    kind = FrozenBatchNorm if statistics == "frozen" else SynchronizedBatchNorm
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                # Created on the meta device: the layer takes over the tensors of the layer it replaces.
                norm = kind(child.num_features, child.eps, child.momentum, device="meta")
                norm.load_state_dict(child.state_dict(keep_vars=True), assign=True)
                setattr(parent, name, norm.train(child.training))


def _leave_biases_without_effect(model: nn.Module) -> None:
    for sequence in model.modules():
        if isinstance(sequence, nn.Sequential):
            for layer, following in pairwise(sequence):
                bias = getattr(layer, "bias", None)
                if isinstance(following, nn.BatchNorm2d) and isinstance(bias, nn.Parameter):
                    bias.requires_grad_(False)


class _Sum(torch.autograd.Function):
    """Differentiable sum over all processes."""

    @staticmethod
    def forward(context: Any, own: Tensor) -> Tensor:
        del context
        total = own.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        del context
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


def _mean_of_all(own: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(own)  # type: ignore[no-untyped-call]
    return total / distributed.get_world_size()
