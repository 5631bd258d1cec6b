"""The three parts of a prediction by the plain model, and metered parts."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from metaprompts.engines.optimized import Parts, StepConditions
from metaprompts.models.model import MetaPromptModel

T = TypeVar("T")


class Meter(Protocol):
    """Measures the cost of a function."""

    def __call__(self, work: Callable[[], T]) -> tuple[T, float]:
        """Run ``work``; returns its result and its measured cost."""


class PlainParts:
    """A model without precomputation: each step reads the time vector and the prompts themselves.

    Unlike the model, this also converts the last step's pyramid to a latent, which is one small convolution.

    Args:
        model: its encoder's ``precise`` sets the encoder's precision on a CPU
    """

    def __init__(self, model: MetaPromptModel) -> None:
        self._model = model

    def conditions(self, batch: int, context: Tensor | None, steps: int) -> StepConditions:
        """The conditioning of the steps, with time vectors in place of shifts, and prompts in place of keys and values.

        Args:
            batch: B
            context: (B, N, D), if the prompts are captions; else None
            steps: K
        """
        times = list(self._model.refinement.time)
        prompts = self._model.prompts(batch, context)[:steps]
        return StepConditions(torch.stack([times[step % len(times)] for step in range(steps)]), prompts, prompts[-1])

    def encode(self, images: Tensor) -> Tensor:
        """Images to latents."""
        return self._model.latent_encoder(images)  # type: ignore[no-any-return]

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
    """Metered parts; amounts of several windows add up.

    Args:
        parts: the parts to execute
        meter: meter of each part
        steps: K

    Attributes:
        amounts: by part: "encode", step numbers from "0", "decode"
    """

    def __init__(self, parts: Parts, meter: Meter, steps: int) -> None:
        self._parts, self._meter, self._steps = parts, meter, steps
        self._steps_done = 0
        self.amounts: dict[str, float] = dict.fromkeys(["encode", *map(str, range(steps)), "decode"], 0.0)

    def encode(self, images: Tensor) -> Tensor:
        """Images to latents."""
        return self._metered("encode", lambda: self._parts.encode(images))

    def unet_step(self, latent: Tensor, shifts: Tensor, keys_values: Tensor) -> Sequence[Tensor]:
        """One step."""
        step = str(self._steps_done % self._steps)
        self._steps_done += 1
        return self._metered(step, lambda: self._parts.unet_step(latent, shifts, keys_values))

    def decode(self, pyramid: Sequence[Tensor], prompts: Tensor, images: Tensor) -> Tensor:
        """Pyramid to raw output."""
        return self._metered("decode", lambda: self._parts.decode(pyramid, prompts, images))

    def of_steps(self) -> list[float]:
        """The amounts of each step."""
        return [self.amounts[str(step)] for step in range(self._steps)]

    def _metered(self, part: str, work: Callable[[], T]) -> T:
        found, amount = self._meter(work)
        self.amounts[part] += amount
        return found


def seconds_of(work: Callable[[], T]) -> tuple[T, float]:
    """Meter of `MeteredParts`: wall-clock seconds, including a GPU's queue."""
    wait_for_gpu()
    started = time.perf_counter()
    found = work()
    wait_for_gpu()
    return found, time.perf_counter() - started


def flops_of(work: Callable[[], T]) -> tuple[T, float]:
    """Meter of `MeteredParts`: operations of convolutions and matrix products; a multiply-add counts as two."""
    with FlopCounterMode(display=False) as counter:
        found = work()
    return found, float(counter.get_total_flops())


def wait_for_gpu() -> None:
    """Synchronize with the GPU, if one is in use."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
