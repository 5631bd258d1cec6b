"""One optimizer step, as every training here does it."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from metaprompts.errors import InputError
from metaprompts.training.peers import ALONE, Peers


def apply_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group the learning rate, times the factor "lr_scale" that the group was made with."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def optimizer_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    losses: Mapping[str, Tensor],
    clip_norm: float | None,
    peers: Peers = ALONE,
) -> dict[str, float]:
    """Go one step down the sum of the losses; where the sum is not finite, the weights stay.

    Args:
        model: its gradients are clipped
        optimizer: of its parameters
        losses: scalars with a graph
        clip_norm: largest norm of all gradients together; None to leave them
        peers: those who take the same step, on other rows of the batch

    Returns:
        the loss's parts and their sum, "total", means over all peers
    """
    parts = torch.stack(list(losses.values()))
    total = parts.sum()
    shown = torch.cat([total.detach()[None], parts.detach()])
    # Before the backward pass: all peers must see the same, and go down together or not at all.
    peers.average([shown])
    optimizer.zero_grad(set_to_none=True)
    if torch.isfinite(shown[0]):
        total.backward()  # type: ignore[no-untyped-call]
        peers.average([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
    return dict(zip(["total", *losses], shown.tolist(), strict=True))


def refuse_non_finite(losses: Mapping[str, float], step: int, cure: str) -> None:
    """Stop a training that has diverged.

    Raises:
        InputError: a loss is infinite or NaN
    """
    if not all(map(math.isfinite, losses.values())):
        raise InputError(f"the loss is no longer finite at step {step} ({dict(losses)}): {cure}")
