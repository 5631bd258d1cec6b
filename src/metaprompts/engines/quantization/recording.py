"""Record what each part of a prediction receives and returns on the calibration images."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from metaprompts.engines.engine_model import EngineModel
from metaprompts.engines.optimized import OptimizedModel, Parts, StepConditions, run
from metaprompts.engines.quantization.calibration import Calibration
from metaprompts.errors import InputError
from metaprompts.models.model import MetaPromptModel
from metaprompts.utils.progress import ProgressBar


@dataclass(frozen=True, eq=False)
class Recorded:
    """One forward pass of a single model input.

    Attributes:
        images: (1, 3, H, W), the input
        conditioning: the conditioning of the steps
        raw: the raw output
        calls: part -> the arguments of each of its calls
        encoded: the outputs of the encoders
    """

    images: Tensor
    conditioning: StepConditions
    raw: Tensor
    calls: dict[str, list[tuple[Any, ...]]]
    encoded: Sequence[Tensor]


def record(prepared: OptimizedModel, model: MetaPromptModel, calibration: Calibration) -> list[Recorded]:
    """Predict the calibration images in float32, and record every call of every part.

    Args:
        prepared: the prepared model, in float32
        model: the model that it was prepared from
        calibration: the images

    Raises:
        InputError: no calibration image yields a model input, for example because none shows a person
    """
    with ProgressBar("calibration images", calibration.samples) as bar:
        recorder = _Recorder(prepared, model, calibration.samples, bar.advance)
        with suppress(_EnoughError):
            calibration.predict(recorder)
    if not recorder.recorded:
        raise InputError(f"calibration has nothing to predict in {calibration.source}: give --calibration DIR")
    return recorder.recorded


def call_part(parts: Parts, part: str, arguments: tuple[Any, ...]) -> Any:
    """Call a part with recorded arguments.

    Args:
        parts: the parts
        part: "encode", "unet_step" or "decode"
        arguments: see `Recorded.calls`
    """
    if part == "decode":
        *pyramid, prompts, images = arguments
        return parts.decode(pyramid, prompts, images)
    return getattr(parts, part)(*arguments)


class _EnoughError(Exception):
    """All samples are recorded."""


class _Recorder(EngineModel):
    """A model that records its forward passes, each of a single model input."""

    def __init__(
        self, prepared: OptimizedModel, model: MetaPromptModel, samples: int, on_sample: Callable[[], None]
    ) -> None:
        super().__init__(
            model.config,
            prepared,
            prepared.conditions,
            engine="eager",
            precision="fp32",
            device=torch.device("cpu"),
            why="calibration",
            encode_captions=model.encode_captions if model.config.prompts.kind == "caption" else None,
        )
        self.recorded: list[Recorded] = []
        self._samples, self._on_sample = samples, on_sample

    @torch.no_grad()
    def __call__(self, images: Tensor, context: Tensor | None = None) -> Tensor:
        raws = []
        for place in range(len(images)):
            if len(self.recorded) == self._samples:
                raise _EnoughError
            one = slice(place, place + 1)
            raws.append(self._record(images[one], None if context is None else context[one]))
        return torch.cat(raws)

    def _record(self, images: Tensor, context: Tensor | None) -> Tensor:
        conditioning = self.conditions(1, context)
        parts = _RecordingParts(self.parts)
        raw = run(parts, self.task, images, conditioning)
        self.recorded.append(Recorded(images, conditioning, raw, parts.calls, parts.encoded))
        self._on_sample()
        return raw


@dataclass(eq=False)
class _RecordingParts:
    """Parts that record their calls."""

    parts: Parts
    calls: dict[str, list[tuple[Any, ...]]] = field(
        default_factory=lambda: {"encode": [], "unet_step": [], "decode": []}
    )
    encoded: Sequence[Tensor] = ()

    def encode(self, images: Tensor) -> Sequence[Tensor]:
        self.calls["encode"].append((images,))
        self.encoded = self.parts.encode(images)
        return self.encoded

    def unet_step(self, latent: Tensor, shifts: Tensor, keys_values: Tensor) -> Sequence[Tensor]:
        self.calls["unet_step"].append((latent, shifts, keys_values))
        return self.parts.unet_step(latent, shifts, keys_values)

    def decode(self, pyramid: Sequence[Tensor], prompts: Tensor, images: Tensor) -> Tensor:
        self.calls["decode"].append((*pyramid, prompts, images))
        return self.parts.decode(pyramid, prompts, images)
