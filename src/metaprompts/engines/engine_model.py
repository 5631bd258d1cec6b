"""A model executed by an engine: it predicts like a `MetaPromptModel`, but cannot be trained."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from metaprompts.engines.adaptive_steps import run_until_agreement
from metaprompts.engines.optimized import Parts, StepConditions, run
from metaprompts.errors import InputError
from metaprompts.models.config import ModelConfig
from metaprompts.tasks import Task
from metaprompts.tasks.protocol import AdaptiveOutput

if TYPE_CHECKING:
    from metaprompts.inference.video.api import VideoResult


@dataclass(eq=False, repr=False)
class EngineModel:
    """A model for prediction by an engine.

    Attributes:
        config: the model's config
        parts: executes the three parts
        conditions: (B, context or None) -> the conditioning of the steps
        engine: name of the engine
        precision: compute precision
        device: the device that images must be on
        why: one line on why this engine was chosen
        caption_encoder: encodes texts as a context (B, N, D), if the model reads captions
        tolerance: stop refining an image when its last two steps agree to this, see `run_until_agreement`; None to run
            all steps
        training: False
        dtype: dtype of input images, independent of the compute precision
        strips: whether the engine can encode images in strips, see `LatentEncoder`
        step_counts: with ``tolerance``: number of steps -> number of views that took that many
    """

    training = False
    dtype = torch.float32

    config: ModelConfig
    parts: Parts
    conditions: Callable[[int, Tensor | None], StepConditions]
    _: KW_ONLY
    engine: str
    precision: str
    device: torch.device
    why: str
    caption_encoder: Callable[[Sequence[str]], Tensor] | None = None
    tolerance: float | None = None

    def __post_init__(self) -> None:
        self.task: Task = self.config.task
        self.strips = self.engine == "eager"
        self.step_counts: Counter[int] = Counter()

    def __str__(self) -> str:
        return f"engine: {self.engine}, {self.precision} ({self.why})"

    @torch.no_grad()
    def __call__(self, images: Tensor, context: Tensor | None = None) -> Tensor:
        """Predict; arguments and result as for `MetaPromptModel.forward`, the result in float32."""
        if self.tolerance is not None:
            return self.adaptive_output(images, context).raw
        return run(self.parts, self.task, images, self.conditions(len(images), context)).float()

    @torch.no_grad()
    def adaptive_output(self, images: Tensor, context: Tensor | None = None) -> AdaptiveOutput:
        """Predict with as many steps as each image needs; only with a ``tolerance``."""
        assert self.tolerance is not None
        conditioning = self.conditions(len(images), context)
        found = run_until_agreement(self.parts, self.task, images, conditioning, self.tolerance)
        self.step_counts.update(found.steps.tolist())
        return AdaptiveOutput(found.raw.float(), found.agreement.float(), found.steps)

    def predict(self, image: Any, boxes: Any = None, caption: Any = None) -> Any:
        """Predict one image of any size, as `MetaPromptModel.predict` does."""
        return next(self.predict_many([(image, boxes, caption)]))

    def predict_many(self, images: Iterable[Any], batch_size: int = 1) -> Iterator[Any]:
        """Predict images one after another, as `MetaPromptModel.predict_many` does."""
        from metaprompts.inference.predict import predict_many

        return predict_many(self, images, batch_size)

    def predict_video(self, source: Any, out: str | Path, **options: Any) -> "VideoResult":
        """Predict a video, and draw the predictions as a clip, as `MetaPromptModel.predict_video` does."""
        from metaprompts.inference.video.api import predict_video

        return predict_video(self, source, out, **options)

    def predict_frames(self, source: Any, **options: Any) -> Iterator[tuple[float, Any]]:
        """Predict a video frame by frame, as `MetaPromptModel.predict_frames` does."""
        from metaprompts.inference.video.api import predict_frames

        return predict_frames(self, source, **options)

    def encode_captions(self, captions: Sequence[str]) -> Tensor:
        """Encode captions with the model's text encoder, (B, N, D).

        Raises:
            InputError: the model reads no captions
        """
        if self.caption_encoder is None:
            kind = self.config.prompts.kind
            raise InputError(f"this model has {kind} prompts and reads no captions: omit the caption")
        return self.caption_encoder(captions)

    def train(self, mode: bool = True) -> Self:
        """No-op: an engine model cannot be trained."""
        del mode
        return self

    def eval(self) -> Self:
        """No-op."""
        return self
