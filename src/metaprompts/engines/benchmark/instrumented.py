"""The three parts of a prediction as the plain model has them, and any parts with a meter on each."""

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
    """Measures work."""

    def __call__(self, work: Callable[[], T]) -> tuple[T, float]:
        """Do it; its result, and how much it took."""


class PlainParts:
    """A model as it is, with nothing computed beforehand: each look reads the time vector and the prompts themselves.

    Unlike the model it turns the last look's pyramid into a latent, too, which is one small convolution.

    Args:
        model: its encoder's ``precise`` decides in what precision a CPU encodes
    """

    def __init__(self, model: MetaPromptModel) -> None:
        self._model = model

    def conditions(self, batch: int, context: Tensor | None, steps: int) -> StepConditions:
        """Tell the steps; the time vectors are in the place of the shifts, the prompts in that of keys and values.

        Args:
            batch: B
            context: (B, N, D), where the prompts are captions; else None
            steps: how often to look
        """
        times = list(self._model.refinement.time)
        prompts = self._model.prompts(batch, context)[:steps]
        return StepConditions(torch.stack([times[step % len(times)] for step in range(steps)]), prompts, prompts[-1])

    def encode(self, images: Tensor) -> Tensor:
        """Images to latents."""
        return self._model.latent_encoder(images)  # type: ignore[no-any-return]

    def look(self, latent: Tensor, time: Tensor, prompts: Tensor) -> list[Tensor]:
        """One step, told a time vector (1, T) and prompts (B, N, D)."""
        unet = self._model.unet
        pyramid = unet(latent, time, prompts)
        return [
            *pyramid,
            latent if unet.conv_out is None else self._model.refinement.next_latent(unet, pyramid[0], latent),
        ]

    def finish(self, pyramid: Sequence[Tensor], prompts: Tensor, images: Tensor) -> Tensor:
        """Pyramid to raw output."""
        maps = self._model.rearrangement(pyramid, prompts)
        return self._model.head(maps, (images.shape[-2], images.shape[-1]))  # type: ignore[no-any-return]


class MeteredParts:
    """Parts of which each is metered; amounts of several windows add up.

    Args:
        parts: what executes them
        meter: of each part
        steps: K

    Attributes:
        amounts: by part: "encode", each step's number from "0" on, "finish"
    """

    def __init__(self, parts: Parts, meter: Meter, steps: int) -> None:
        self._parts, self._meter, self._steps = parts, meter, steps
        self._looks = 0
        self.amounts: dict[str, float] = dict.fromkeys(["encode", *map(str, range(steps)), "finish"], 0.0)

    def encode(self, images: Tensor) -> Tensor:
        """Images to latents."""
        return self._metered("encode", lambda: self._parts.encode(images))

    def look(self, latent: Tensor, shifts: Tensor, keys_values: Tensor) -> Sequence[Tensor]:
        """One step."""
        step = str(self._looks % self._steps)
        self._looks += 1
        return self._metered(step, lambda: self._parts.look(latent, shifts, keys_values))

    def finish(self, pyramid: Sequence[Tensor], prompts: Tensor, images: Tensor) -> Tensor:
        """Pyramid to raw output."""
        return self._metered("finish", lambda: self._parts.finish(pyramid, prompts, images))

    def of_steps(self) -> list[float]:
        """The amounts of each step."""
        return [self.amounts[str(step)] for step in range(self._steps)]

    def _metered(self, part: str, work: Callable[[], T]) -> T:
        found, amount = self._meter(work)
        self.amounts[part] += amount
        return found


def seconds_of(work: Callable[[], T]) -> tuple[T, float]:
    """Meter of `MeteredParts`: seconds of the wall clock, those of a GPU's queue included."""
    wait_for_gpu()
    started = time.perf_counter()
    found = work()
    wait_for_gpu()
    return found, time.perf_counter() - started


def flops_of(work: Callable[[], T]) -> tuple[T, float]:
    """Meter of `MeteredParts`: operations of convolutions and matrix products, of which a multiply-add is two."""
    with FlopCounterMode(display=False) as counter:
        found = work()
    return found, float(counter.get_total_flops())


def wait_for_gpu() -> None:
    """Wait until a GPU, if there is one in use, has done what it was told."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
