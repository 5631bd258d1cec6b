"""One optimizer step, as every training here does it."""

import math
from collections.abc import Callable, Mapping, Sequence

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
    passes: Sequence[Callable[[], Mapping[str, Tensor]]],
    clip_norm: float | None,
    peers: Peers = ALONE,
) -> dict[str, float]:
    """Go one step down the mean of the passes' losses; where it is not finite, the weights stay.

    Args:
        model: its gradients are clipped
        optimizer: of its parameters
        passes: each computes losses, scalars with a graph, of equally many pictures
        clip_norm: largest norm of all gradients together; None to leave them
        peers: those who take the same step, on other rows of the batch

    Returns:
        the loss's parts and their sum, "total", means over all passes and peers
    """
    optimizer.zero_grad(set_to_none=True)
    means: dict[str, float] = {}
    for number, losses_of in enumerate(passes):
        with peers.in_pass(number, len(passes)):
            losses = losses_of()
            parts = torch.stack(list(losses.values()))
            total = parts.sum()
            # Before the backward pass: all peers must see the same, and go down together or not at all.
            shown = peers.mean(torch.cat([total.detach()[None], parts.detach()])).tolist()
            means = {
                name: means.get(name, 0.0) + value / len(passes)
                for name, value in zip(["total", *losses], shown, strict=True)
            }
            if not math.isfinite(means["total"]):
                return means
            peers.backward(total / len(passes))
    peers.exchange(model)
    if clip_norm is not None:
        peers.clip(model, optimizer, clip_norm)
    optimizer.step()
    return means


def refuse_non_finite(losses: Mapping[str, float], step: int, cure: str) -> None:
    """Stop a training that has diverged.

    Raises:
        InputError: a loss is infinite or NaN
    """
    if not all(map(math.isfinite, losses.values())):
        raise InputError(f"the loss is no longer finite at step {step} ({dict(losses)}): {cure}")
