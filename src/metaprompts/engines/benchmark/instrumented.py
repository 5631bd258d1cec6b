"""The plain model split into its three parts, and wrappers that measure the cost of each part."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from metaprompts.engines.optimized import Parts, StepConditions
from metaprompts.models.model import MetaPromptModel
from metaprompts.training.flops import Flops

Work = Callable[..., Any]
Meter = Callable[..., tuple[Any, float]]
"""(function, its arguments) -> its result and its measured cost."""


class PlainParts:
    """A model without precomputation: each step reads the time vector and the prompts directly.

    Unlike the model, this also converts the last step's pyramid to a latent, which is one small convolution.

    Args:
        model: the model, whose ``encoder.precise`` sets the precision of encoding on a CPU
        steps: number of steps, K
    """

    def __init__(self, model: MetaPromptModel, steps: int) -> None:
        self._model, self._steps = model, steps

    def conditions(self, batch: int, context: Tensor | None) -> StepConditions:
        """The conditioning of the steps: time vectors instead of shifts, and prompts instead of keys and values.

        Args:
            batch: batch size, B
            context: (B, N, D), if the prompts are captions; else None
        """
        times = list(self._model.refinement.time)
        prompts = self._model.prompts(batch, context)[: self._steps]
        shifts = torch.stack([times[step % len(times)] for step in range(self._steps)])
        return StepConditions(shifts, prompts, list(prompts))

    def encode(self, images: Tensor) -> list[Tensor]:
        """Images to latents and maps."""
        second = self._model.second_encoder
        return [self._model.latent_encoder(images), *([] if second is None else second(images))]

    def unet_step(self, latent: Tensor, time: Tensor, prompts: Tensor) -> list[Tensor]:
        """One step, conditioned on a time vector (1, T) and prompts (B, N, D)."""
        unet = self._model.unet
        pyramid = unet(latent, time, prompts)
        return [
            *pyramid,
            latent if unet.conv_out is None else self._model.refinement.next_latent(unet, pyramid[0], latent),
        ]

    def decode(self, pyramid: Sequence[Tensor], prompts: Tensor, images: Tensor) -> Tensor:
        """Pyramid to raw output."""
        maps = self._model.rearrangement(pyramid, prompts)
        return self._model.head(maps, (images.shape[-2], images.shape[-1]))  # type: ignore[no-any-return]


class MeteredParts:
    """Parts that measure their own cost; the costs of several windows add up.

    Args:
        parts: the parts to execute
        meter: measures the cost of each part
        steps: number of steps, K

    Attributes:
        amounts: cost by part: "encode", step numbers from "0", "decode"
    """

    def __init__(self, parts: Parts, meter: Meter, steps: int) -> None:
        self._meter, self._steps = meter, [str(step) for step in range(steps)]
        self.amounts: dict[str, float] = dict.fromkeys(["encode", *self._steps, "decode"], 0.0)
        self.encode = partial(self._metered, itertools.repeat("encode"), parts.encode)
        self.unet_step = partial(self._metered, itertools.cycle(self._steps), parts.unet_step)
        self.decode = partial(self._metered, itertools.repeat("decode"), parts.decode)

    def of_steps(self) -> list[float]:
        """The cost of each step."""
        return [self.amounts[step] for step in self._steps]

    def _metered(self, names: Iterator[str], work: Work, *arguments: Any) -> Any:
        found, amount = self._meter(work, *arguments)
        self.amounts[next(names)] += amount
        return found


def seconds_of(work: Work, *arguments: Any) -> tuple[Any, float]:
    """A meter for `MeteredParts`: wall-clock seconds, including the GPU's queue."""
    wait_for_gpu()
    started = time.perf_counter()
    found = work(*arguments)
    wait_for_gpu()
    return found, time.perf_counter() - started


def flops_of(work: Work, *arguments: Any) -> tuple[Any, float]:
    """A meter for `MeteredParts`: operations in convolutions and matrix products; a multiply-add counts as two."""
    with Flops() as counter:
        found = work(*arguments)
    return found, float(counter.total)


def wait_for_gpu() -> None:
    """Synchronize with the GPU, if one is in use."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
