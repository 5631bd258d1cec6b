"""The three parts of a prediction, and the cost of each: seconds, or floating-point operations."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from metaprompts.engines.benchmark.plan import Plan, Workload
from metaprompts.engines.optimized import PARTS, Encoders, Parts, StepConditions, UNetStep, intercepted, run
from metaprompts.models.model import MetaPromptModel
from metaprompts.modules.meta_prompts import CaptionPrompts
from metaprompts.tasks import Task
from metaprompts.tasks.sliding_window import slide_logits
from metaprompts.training.flops import Flops as FlopCounter

Meter = Callable[..., tuple[Any, float]]
"""(function, its arguments) -> its result and its measured cost."""


@dataclass(frozen=True, kw_only=True)
class PartCosts:
    """The cost of a prediction.

    Attributes:
        encode: the VAE
        steps: each step
        decode: rearrangement and head
        total: the whole prediction
    """

    encode: float
    steps: Sequence[float]
    decode: float
    total: float

    @property
    def parts(self) -> list[float]:
        """VAE, each step, and head."""
        return [self.encode, *self.steps, self.decode]


@dataclass(frozen=True, kw_only=True)
class Timing(PartCosts):
    """Seconds of a prediction; the total includes time between the parts.

    Attributes:
        pre: images to tensors, and the conditioning of the steps
        post: raw output to a prediction of the image's size
    """

    pre: float
    post: float


@dataclass(frozen=True, kw_only=True)
class Flops(PartCosts):
    """Operations of a prediction by the plain engine, whose backbone sees images of this (height, width)."""

    seen: tuple[int, int]


class PlainParts:
    """A model without precomputation: each of K steps reads the time vector and the prompts directly.

    Unlike the model, this also converts the last step's pyramid to a latent, which is one small convolution.
    """

    def __init__(self, model: MetaPromptModel, steps: int) -> None:
        self._model, self._steps = model, steps
        self.encode = Encoders(model.latent_encoder, model.second_encoder)
        self.unet_step = UNetStep(model.unet, model.refinement.next_latent)

    def conditions(self, batch: int, context: Tensor | None) -> StepConditions:
        """Like `Conditions`, but with time vectors instead of shifts, and prompts instead of keys and values."""
        times = list(self._model.refinement.time)
        prompts = self._model.prompts(batch, context)[: self._steps]
        return StepConditions(torch.stack([times[step % len(times)] for step in range(self._steps)]), prompts, prompts)

    def decode(self, pyramid: Sequence[Tensor], prompts: Tensor, images: Tensor) -> Tensor:
        """Pyramid to raw output."""
        maps = self._model.rearrangement(pyramid, prompts)
        return self._model.head(maps, (images.shape[-2], images.shape[-1]))  # type: ignore[no-any-return]


def seconds_of(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """A `Meter` of wall-clock seconds, including the GPU's queue."""
    started = now()
    return work(*arguments), now() - started


def flops_of(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """A `Meter` of operations in convolutions, matrix products and attention; a multiply-add counts as two."""
    with FlopCounter() as counter:
        return work(*arguments), float(counter.total)


def now() -> float:
    """The clock in seconds, after waiting for the GPU if there is one."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    return time.perf_counter()


def caption_context(model: MetaPromptModel, workload: Workload) -> Tensor | None:
    """Random captions (B, N, D), if the model reads captions."""
    if not isinstance(model.prompts, CaptionPrompts):
        return None
    shape = (workload.batch, workload.prompts, model.unet.prompt_channels)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(model.device)


def measured(
    meter: Meter, parts: Parts, task: Task, workload: Workload, images: Tensor, conditioning: StepConditions
) -> tuple[Tensor, dict[str, Any]]:
    """Predict a workload's windows one after the other, and measure the cost of each part.

    Arguments are those of `run`; images have all windows side by side.

    Returns:
        raw output; and the attributes of `PartCosts` except the total, each summed over all windows
    """
    of_calls: dict[str, list[float]] = {name: [] for name in PARTS}

    def call(name: str, part: Callable[..., Any], *arguments: Any) -> Any:
        found, cost = meter(part, *arguments)
        of_calls[name].append(cost)
        return found

    predict = partial(run, intercepted(parts, call), task, conditioning=conditioning)
    size = (images.shape[-2], images.shape[-1] // workload.windows)
    raw = predict(images) if workload.windows == 1 else slide_logits(predict, images, window=size, stride=size)
    steps = [sum(of_calls["unet_step"][step :: workload.steps]) for step in range(workload.steps)]
    return raw, {"encode": sum(of_calls["encode"]), "steps": steps, "decode": sum(of_calls["decode"])}


@torch.no_grad()
def count_flops(plan: Plan) -> Flops:
    """Count the operations of a prediction, using meta tensors."""
    workload = plan.workload
    # Frozen, because the counter would track gradients, which prompts created under no_grad do not have.
    model = MetaPromptModel.from_config(workload.adapted(plan.config)).eval().requires_grad_(False)
    images = torch.stack([view.image for view in workload.views(workload.images(), model.task)]).to("meta")
    plain = PlainParts(model, workload.steps)
    conditioning = plain.conditions(workload.batch, caption_context(model, workload))
    _, costs = measured(flops_of, plain, model.task, workload, images, conditioning)
    height, width = model.task.resize_for_backbone(images[..., : images.shape[-1] // workload.windows]).shape[-2:]
    return Flops(**costs, total=costs["encode"] + sum(costs["steps"]) + costs["decode"], seen=(height, width))
