"""One optimizer step, shared by all training loops."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from metaprompts.errors import InputError
from metaprompts.models.model import MetaPromptModel
from metaprompts.tasks import Task
from metaprompts.training.data_parallel import SINGLE_PROCESS, ProcessGroup


def apply_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set every group's learning rate to ``lr`` times the group's "lr_scale"."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def optimizer_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    passes: Sequence[Callable[[], Mapping[str, Tensor]]],
    max_grad_norm: float | None,
    process_group: ProcessGroup = SINGLE_PROCESS,
) -> dict[str, float]:
    """Take one optimizer step on the mean of the passes' losses; if the mean is non-finite, the weights are unchanged.

    Args:
        model: the model whose gradients are clipped
        optimizer: optimizer of the model's parameters
        passes: functions that each compute losses, as scalars with a graph, over the same number of images
        max_grad_norm: maximum norm of all gradients together; None to disable clipping
        process_group: the processes that take this step together, each on its own rows of the batch

    Returns:
        the loss terms and their sum, "total", averaged over all passes and processes
    """
    optimizer.zero_grad(set_to_none=True)
    means: dict[str, float] = {}
    for number, losses_of in enumerate(passes, 1):
        with process_group.in_pass(is_last=number == len(passes)):
            losses = losses_of()
            parts = torch.stack(list(losses.values()))
            total = parts.sum()
            # Before the backward pass: all processes must see the same loss and step together or not at all.
            shown = process_group.mean(torch.cat([total.detach()[None], parts.detach()])).tolist()
            means = {
                name: means.get(name, 0.0) + value / len(passes)
                for name, value in zip(["total", *losses], shown, strict=True)
            }
            if not math.isfinite(means["total"]):
                return means
            process_group.backward(total / len(passes))
    process_group.exchange(model)
    if max_grad_norm is not None:
        process_group.clip(model, optimizer, max_grad_norm)
    optimizer.step()
    return means


def check_finite(losses: Mapping[str, float], step: int, cure: str) -> None:
    """Stop a diverged run.

    Raises:
        InputError: a loss is infinite or NaN
    """
    if not all(map(math.isfinite, losses.values())):
        raise InputError(f"the loss is no longer finite at step {step} ({dict(losses)}): {cure}")


class LossModule(nn.Module):
    """A model and its losses as one module, so that DistributedDataParallel and torch.compile can wrap it.

    Args:
        model: the model to train
        loss_batch: images per loss group; None for all images of a pass
        autocast: creates the autocast context of the model; by default the weights' own precision
        step_decay: see `step_losses`
    """

    def __init__(
        self,
        model: MetaPromptModel,
        loss_batch: int | None = None,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        step_decay: float | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self._loss_batch, self._autocast, self._step_decay = loss_batch, autocast, step_decay

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute the loss terms by name, as means over the pass.

        Args:
            batch: "image" (B, 3, H, W) in [0, 1], the task's targets, and "context" (B, N, D) if the model reads
                captions; on any device
        """
        batch = {name: tensor.to(self.model.device, non_blocking=True) for name, tensor in batch.items()}
        with self._autocast():
            raw, auxiliary = self.model.training_outputs(
                batch["image"], batch.get("context"), every_step=self._step_decay is not None
            )
        # Half precision is too coarse for sums over many pixels and for logarithms.
        with torch.autocast(raw.device.type, enabled=False):
            auxiliary = None if auxiliary is None else auxiliary.float()
            return step_losses(self.model.task, raw.float(), auxiliary, batch, self._loss_batch, self._step_decay)


def step_losses(
    task: Task,
    raw: Tensor,
    auxiliary: Tensor | None,
    batch: Mapping[str, Tensor],
    loss_batch: int | None,
    step_decay: float | None,
) -> dict[str, Tensor]:
    """The losses of the last refinement step, and the weighted losses of earlier steps.

    Args:
        task: defines the losses
        raw: (B, ...); with ``step_decay``, (K B, ...): the outputs of all K steps, first to last
        auxiliary: shaped like ``raw``, or None
        batch: "image" and the targets (B, ...)
        loss_batch: see `grouped_losses`
        step_decay: step k is weighted by step_decay^(K - k), like the iterations of RAFT (Teed and Deng, ECCV 2020);
            None to use only the last step

    Returns:
        the loss terms of the last step by name, and "earlier_steps", the weighted sum of the losses of all earlier
        steps, if there are any
    """
    steps = len(raw) // len(batch["image"])
    others = (None,) * steps if auxiliary is None else auxiliary.chunk(steps)
    *earlier, last = [
        grouped_losses(task, own, other, batch, loss_batch) for own, other in zip(raw.chunk(steps), others, strict=True)
    ]
    if step_decay is None or not earlier:
        return last
    weights = [step_decay ** (len(earlier) - step) for step in range(len(earlier))]
    sums = [weight * torch.stack(list(losses.values())).sum() for weight, losses in zip(weights, earlier, strict=True)]
    return last | {"earlier_steps": torch.stack(sums).sum()}


def grouped_losses(
    task: Task, raw: Tensor, auxiliary: Tensor | None, batch: Mapping[str, Tensor], loss_batch: int | None
) -> dict[str, Tensor]:
    """The mean loss over consecutive groups of images, weighted by the groups' sizes.

    Some losses, SILog and Lovasz, are not means over images, so the grouping matters.

    Args:
        task: defines the losses
        raw: (B, ...)
        auxiliary: (B, ...) or None
        batch: targets (B, ...)
        loss_batch: images per group; the last may have fewer. None for all

    Returns:
        the loss terms by name
    """
    count = len(raw)
    size = loss_batch or count
    if size >= count:
        return task.losses(raw, auxiliary, batch)
    means: dict[str, Tensor] = {}
    for first in range(0, count, size):
        group = slice(first, first + size)
        own = {name: tensor[group] for name, tensor in batch.items()}
        losses = task.losses(raw[group], None if auxiliary is None else auxiliary[group], own)
        weight = len(raw[group]) / count
        for name, loss in losses.items():
            means[name] = means.get(name, 0) + loss * weight
    return means
