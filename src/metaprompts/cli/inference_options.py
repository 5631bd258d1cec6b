"""Inference options of commands: whole images or windows, and the memory limit."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from metaprompts.engines.memory_budget import Budget, automatic_limit, check_limit, weight_bytes
from metaprompts.errors import InputError
from metaprompts.inference.predict import RawFilter, Windows, predict_in_windows, predict_many
from metaprompts.models.model import MetaPromptModel
from metaprompts.tasks.predictions import Prediction
from metaprompts.utils.byte_size import parse_bytes
from metaprompts.visualize.text import ImageArray

if TYPE_CHECKING:
    from metaprompts.engines.engine_model import EngineModel


class InferenceOptions:
    """The parsed options; `begin` sets the models.

    Args:
        windows: None for whole images
        limit: memory limit for predictions, in bytes; None for the free memory
        batch: views per forward pass, if that many fit in memory

    Attributes:
        models: the models that predict
    """

    def __init__(self, windows: Windows | None, limit: int | None, batch: int) -> None:
        self.models: list[MetaPromptModel] = []
        self._executed: dict[int, Any] = {}
        self._windows, self._limit, self._batch = windows, limit, batch
        self._budgets: dict[int, Budget] = {}

    @classmethod
    def of(cls, window: str | None, stride: str | None, max_memory: str | None, batch: int) -> Self:
        """Read the options.

        Raises:
            InputError: an option is invalid
        """
        windows = None
        if window is not None or stride is not None:
            windows = Windows.of(_pair("--window", window), _pair("--stride", stride))
        return cls(windows, None if max_memory is None else parse_bytes(max_memory, "--max-memory"), batch)

    @property
    def is_limited(self) -> bool:
        """Whether the user limited the memory."""
        return self._limit is not None

    def check(self, models: Sequence[MetaPromptModel]) -> None:
        """Check that the options suit the models.

        Raises:
            InputError: windows were requested for a model that cannot use them, or more memory than the device has
        """
        for model in models:
            if self._windows is not None and model.task.reads_boxes:
                raise InputError(
                    f"--window applies only to whole images, but {model.task.name} predicts people: omit it"
                )
            if self._limit is not None:
                check_limit(self._limit, model)

    def begin(self, models: Sequence[MetaPromptModel], executed: "Sequence[MetaPromptModel | EngineModel]") -> None:
        """Set the models that predict.

        Args:
            models: the models as loaded
            executed: the models as executed by their engines
        """
        self.models = list(models)
        self._executed = {id(model): fast for model, fast in zip(models, executed, strict=True)}
        together = weight_bytes(*models)
        for model in models:
            limit = automatic_limit(model) if self._limit is None else self._limit
            self._budgets[id(model)] = Budget(model, limit, self._batch, together - weight_bytes(model))

    def steps_used(self) -> Iterator[str]:
        """One line for each model whose number of steps was chosen automatically."""
        for fast in self._executed.values():
            if counts := getattr(fast, "step_counts", None):
                used = [f"{count} with {steps}" for steps, count in sorted(counts.items())]
                yield f"refinement steps: {', '.join(used)}"

    def check_size(self, width: int, height: int) -> None:
        """Check that an image, not yet decoded, and its prediction fit in memory.

        Raises:
            InputError: the image and its prediction take too much memory
        """
        for model in self.models:
            self._budgets[id(model)].check_image(height, width)

    def predictions(
        self,
        model: MetaPromptModel,
        inputs: Sequence[tuple[ImageArray, Any, Any]],
        raw_filter: RawFilter | None = None,
    ) -> Iterator[Prediction]:
        """Predict images in order.

        Args:
            model: one of ``models``
            inputs: (image, boxes or None, caption or None) of each image
            raw_filter: changes the raw output of each image or view

        Raises:
            InputError: even one view at a time takes too much memory
        """
        fast = self._executed[id(model)]

        def at_once(size: tuple[int, int], held: int = 0) -> int:
            batch = self._budgets[id(model)].batch(size, held)
            if model.latent_encoder.rows is not None and not isinstance(fast, MetaPromptModel) and not fast.strips:
                raise InputError(
                    f"{size[0]}x{size[1]} pixels do not fit in memory at once, and engine {fast.engine} cannot split "
                    "the VAE into strips: pass --engine eager, or a smaller --window"
                )
            return batch

        if self._windows is None:
            yield from predict_many(fast, inputs, self._batch, at_once, raw_filter)
            return
        for image, boxes, caption in inputs:
            height, width = image.shape[:2]
            held = self._windows.held_bytes(height, width, model.task.outputs)
            batch = at_once(self._windows.within(height, width), held)
            yield predict_in_windows(fast, image, self._windows, boxes, caption, batch, raw_filter)


def _pair(option: str, text: str | None) -> tuple[int, int] | None:
    """Read "height,width"."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise InputError(f"{option} is {text!r}; expected a height and a width in pixels, such as 1024,1024")
    return int(parts[0]), int(parts[1])
