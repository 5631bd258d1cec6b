"""Record what each part of a prediction receives and returns on the calibration images."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metaprompts.engines.engine_model import EngineModel
from metaprompts.engines.optimized import PARTS, OptimizedModel, Parts, StepConditions, intercepted, run
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

    def repeat(self, parts: Parts, part: str) -> list[Any]:
        """Repeat all calls of a part, and return their results."""
        return [getattr(parts, part)(*arguments) for arguments in self.calls[part]]


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
            caption_encoder=model.encode_captions if model.config.prompts.kind == "caption" else None,
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
        calls: dict[str, list[tuple[Any, ...]]] = {part: [] for part in PARTS}
        last: dict[str, Any] = {}

        def call(name: str, part: Callable[..., Any], *arguments: Any) -> Any:
            calls[name].append(arguments)
            last[name] = part(*arguments)
            return last[name]

        raw = run(intercepted(self.parts, call), self.task, images, conditioning)
        self.recorded.append(Recorded(images, conditioning, raw, calls, last["encode"]))
        self._on_sample()
        return raw
