"""The task interface: everything that depends on the perception task."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from metaprompts.data.check import SampleStatistics
from metaprompts.data.config.base import Openers
from metaprompts.data.datasets.label_histogram import LabelHistogram
from metaprompts.data.sample import Sample, SampleDataset, Split
from metaprompts.data.transforms.transform import Transform
from metaprompts.errors import InputError
from metaprompts.metrics.base import Metric
from metaprompts.metrics.prompt_statistics import PromptResponses
from metaprompts.modules.upsampling import Upsampling
from metaprompts.tasks.drawing import shrunk
from metaprompts.tasks.predictions import Prediction
from metaprompts.tasks.preprocess import ModelInput, whole_view
from metaprompts.tasks.protocol import Batch, EvaluationProtocol
from metaprompts.utils.lazy import lazy_module
from metaprompts.visualize.text import ImageArray, stack_down

if TYPE_CHECKING:
    from torch import Tensor, nn
else:
    nn = lazy_module("torch.nn")


@dataclass(frozen=True, kw_only=True)
class About:
    """Texts about a task in the demo report.

    Attributes:
        title: title of the task
        text: explanation of the task's images
        scores: metric -> what it measures
        constant: description of `Task.constant_output`
    """

    title: str
    text: str
    scores: Mapping[str, str]
    constant: str


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """Everything about one task. A frozen dataclass without state, whose fields are the ``task`` section of recipes.

    Raw outputs are the outputs of `MetaPromptModel.forward`; targets are the target tensors of a batch from ``data``.
    """

    name: ClassVar[str]
    data: ClassVar[type[Any]]
    """The ``data`` section of recipes, a `Section`."""
    augment: ClassVar[type[Any]]
    """The ``augment`` section, with ``transforms(data, ...)`` and ``keeps_images(data)``."""
    protocol: ClassVar[type[EvaluationProtocol]]
    """The ``test`` section."""
    metrics: ClassVar[tuple[str, ...]]
    """Names of the metrics of `metric` that compare models."""
    best_by: ClassVar[Mapping[str, Literal["higher", "lower"]]]
    """The metrics that select the best checkpoint, and which values are better; later metrics only break ties."""
    image_metric: ClassVar[str | None] = None
    """The metric that ranks individual images; None for the first metric in ``best_by``."""
    nothing_scored: ClassVar[str]
    """Why the main metric may be undefined, for messages."""
    fused: ClassVar[bool] = False
    """Whether the head reads one map fused from all levels, instead of one map per level."""
    smallest_pass: ClassVar[int] = 1
    """The smallest number of images in a training pass that the batch norm of the head allows."""
    reads_boxes: ClassVar[bool] = False
    """Whether predictions are made for people's boxes instead of whole images."""
    output_names: ClassVar[str | None] = None
    """Name of the setting that lists the names of the outputs, if there is one."""
    output_layers: ClassVar[tuple[str, ...]] = ()
    """Prefixes of the head's tensors with one row per named output."""
    # Bytes per pixel: 4 + 3 to decode an image; 4 + 1 + 3 + about 1 for confidence, classes, image and bands of written
    # results; 3 + 3 to draw people. The measured peak was 8.
    pixel_bytes: ClassVar[int] = 9
    """Bytes per image pixel at the peak of a prediction, without the model's own memory."""
    published: ClassVar[str | None] = None
    """The recipe of a published model, which benchmarks build by default."""
    published_size: ClassVar[tuple[int, int]] = (512, 512)
    """(height, width) of the published model's images."""
    sheet_cell: ClassVar[tuple[int, int]] = (240, 320)
    """(height, width) of a sample in a contact sheet."""
    hub_task: ClassVar[str | None] = None
    """The hub's name for the task (pipeline_tag); None if the hub has none."""
    about: ClassVar[About]
    """Texts for the demo report."""

    @classmethod  # noqa: B027
    def complete(cls, task: dict[str, Any], data: Mapping[str, Any]) -> None:
        """Fill in missing keys of a recipe's ``task`` section that the files in its ``data`` section define."""

    def comparable_names(self, names: Sequence[str]) -> Sequence[Hashable]:
        """The names of the outputs in a canonical form, equal for names with the same meaning."""
        return names

    def check_trainable(self) -> None:  # noqa: B027
        """Check constraints that apply to training but not to the model.

        Raises:
            InputError: nothing would be learned
        """

    @property
    def input_size(self) -> tuple[int, int] | None:
        """The (height, width) that all images must have; None for any size."""
        return None

    def with_input_size(self, size: tuple[int, int]) -> Self:
        """The task with a different `input_size`, if it has one."""
        return self

    @property
    def distinct_targets(self) -> int:
        """Number of distinct target values over which a loss iterates."""
        return 1

    def fitted_to(
        self, samples: SampleDataset, gather: Callable[[Any], list[Any]] = lambda value: [value]
    ) -> tuple[Self, list[str]]:
        """Resolve settings that depend on the training samples, and return lines that describe them.

        Args:
            samples: the training samples
            gather: gathers values from all processes; the values of the first process are used
        """
        return self, []

    def unfitted(self) -> Self:
        """The task without the settings that `fitted_to` resolves, for memory estimates."""
        return self

    def parts(self, data: Any, split: Split) -> Openers:
        """The parts of a split of a ``data`` section, which are opened one by one."""
        parts: Openers = data.parts(split)
        return parts

    def check_samples(self, samples: SampleDataset, name: str, *, warns: bool = True) -> LabelHistogram | None:
        """Check, before the first step, that samples can be trained on and scored.

        Args:
            samples: samples of a split
            name: name of the samples, for messages
            warns: whether to also look for oddities and log them

        Returns:
            the count of each class in masks, if the targets are classes and it was counted

        Raises:
            InputError: the samples cannot be trained on or scored
        """
        return None

    def count_labels(
        self,
        samples: SampleDataset,
        *,
        at_most: int | None = None,
        progress: Callable[[Iterable[Any], int], Iterable[Any]] = lambda items, total: items,
    ) -> LabelHistogram | None:
        """Count the classes in masks; None if the targets are not classes."""
        return None

    def sample_statistics(self) -> SampleStatistics | None:
        """Statistics for ``metaprompts data check``."""
        return None

    def describe_data(self, augment: Any, test: Any) -> list[str]:
        """Lines for ``metaprompts data check`` on how names are interpreted.

        Raises:
            InputError: the task cannot be trained with these sections
        """
        return []

    def training_transforms(self, data: Any, augment: Any, test: Any) -> list[Transform]:
        """The transforms of training samples, given the sections of the recipe."""
        return [*test.transforms(), *augment.transforms(data)]

    def validation_transforms(self, data: Any) -> list[Transform]:
        """The transforms of validation samples, in addition to those of `EvaluationProtocol`."""
        transforms: list[Transform] = data.val_transforms()
        return transforms

    def metric_kwargs(self, samples: SampleDataset, data: Any, test: Any) -> dict[str, Any]:
        """Arguments of `metric` that describe a validation split.

        Raises:
            InputError: the split cannot be predicted as ``test`` requests
        """
        return {}

    @abstractmethod
    def empty_targets(self, images: int, height: int, width: int) -> dict[str, Tensor]:
        """Dummy target tensors of a batch, to measure the cost of a training step."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Channels of the raw output."""

    def rearrangement(self, levels: Sequence[int], prompt_channels: int, *, enabled: bool) -> nn.Module:
        """The rearrangement module for a pyramid with these channels; by default it gives one map per level."""
        from metaprompts.modules.meta_prompts import LevelRearrangement

        return LevelRearrangement(levels, prompt_channels, enabled=enabled)

    @abstractmethod
    def head(self, channels: int, levels: int) -> nn.Module:
        """The head, for maps of this many channels: (maps, (H, W)) -> raw output."""

    def auxiliary_head(self, channels: int) -> nn.Module | None:
        """An auxiliary head that is used only in training, if the task has one."""
        return None

    def resize_for_backbone(self, images: Tensor) -> Tensor:
        """Resize images (B, 3, H, W) to the backbone's input size."""
        return images

    @abstractmethod
    def losses(self, raw: Tensor, auxiliary: Tensor | None, batch: Batch) -> dict[str, Tensor]:
        """The parts of the loss by name; training minimizes their sum."""

    @abstractmethod
    def encode(self, batch: Batch) -> Tensor:
        """The ideal raw output (B, ...) for a batch's targets."""

    @abstractmethod
    def decode(self, raw: Tensor) -> Tensor:
        """Convert a raw output to the units of the targets."""

    def disagreement(self, earlier: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
        """How much the raw outputs of two steps differ, from 0 to 1.

        By default the difference of two values relative to the larger one.

        Args:
            earlier: (B, C, h, w), raw output
            later: (B, C, h, w), raw output of the next step

        Returns:
            the disagreement of each pixel (B, h, w), and of each image (B,)
        """
        largest = earlier.abs().maximum(later.abs()).clamp_min(1e-12)
        per_pixel = ((earlier - later).abs() / largest).mean(dim=1).clamp(0, 1)
        return per_pixel, per_pixel.mean(dim=(1, 2))

    @abstractmethod
    def metric(self, **metric_kwargs: Any) -> Metric:
        """A fresh metric over a split; ``metric_kwargs`` describe the split."""

    def write_details(self, metric: Any, folder: Path) -> None:  # noqa: B027
        """Write files of an evaluation in addition to the scores."""

    @abstractmethod
    def score(self, metric: Any, raw: Tensor, batch: Batch) -> None:
        """Update the metric with a batch's raw output."""

    def model_inputs(
        self, image: ImageArray, working_size: tuple[int, int] | None, boxes: Sequence[Any] | None
    ) -> Iterator[ModelInput]:
        """Yield the views of an image (H, W, 3) that the model predicts, each computed lazily.

        By default the whole image.

        Args:
            image: uint8 RGB
            working_size: (height, width) of the images that the model was trained on; None to keep the image's own size
            boxes: (x, y, width, height[, score]) of the people in the image, in pixels; only pose reads them
        """
        yield whole_view(image, working_size)

    @abstractmethod
    def assemble(self, image: ImageArray, outputs: Iterable[tuple[ModelInput, Tensor]]) -> Prediction:
        """Combine the views and their raw outputs (...) into a prediction at the image's own size; keeps no views."""

    def assemble_rows(self, image: ImageArray, rows: Iterable[tuple[int, Tensor]]) -> Prediction:
        """Convert raw outputs of windows, averaged and at the image's own size, to a prediction.

        Args:
            image: uint8 RGB (H, W, 3)
            rows: first row index and rows (C, h, W), from top to bottom; each item is consumed before the next

        Raises:
            InputError: the task does not support windows
        """
        raise InputError(
            f"{self.name} is not predicted per pixel, so windows are not supported: omit window and stride"
        )

    @abstractmethod
    def constant_output(self, batches: Iterable[Batch]) -> Tensor:
        """The best raw output (1, ...) that is the same for every image: a floor for each metric.

        Args:
            batches: batches of training images, all of one size
        """

    @abstractmethod
    def prompt_responses(self, prompts: int) -> PromptResponses:
        """Statistics of what each of N prompts responds to over a data set."""

    def amount_of(self, place: int, sample: Sample) -> float:
        """How much of a sample belongs to a class, joint or other category of `prompt_responses`."""
        return 0.0

    @abstractmethod
    def draw_target(self, sample: Sample) -> ImageArray:
        """The target of a sample, (H, W, 3)."""

    def draw_prediction(self, prediction: Any, sample: Sample) -> ImageArray:
        """A prediction of a sample's image, (H, W, 3), in the colors of `draw_target`."""
        return np.asarray(prediction.show(legend=False))

    def scale(self, sample: Sample, width: int) -> ImageArray | None:
        """The scale of the colors of `draw_target` and `draw_prediction`, (strip height, at least width, 3).

        None if all samples share the colors of `legend`.
        """
        return None

    def draw_sample(self, sample: Sample) -> ImageArray:
        """A sample for ``metaprompts data check``: the image, and its target below."""
        small = shrunk(sample)
        return stack_down(small.image, self.draw_target(small))

    def legend_entries(self, shown: Any) -> set[int]:
        """Indices of the `legend` entries that a sample or a prediction needs."""
        return set()

    def legend(self, entries: Iterable[int], width: int) -> ImageArray | None:
        """A legend of named colors, (strip height, width, 3); None without entries."""
        return None

    def export_input(self) -> str:
        """How an image is converted to the input of an exported model, for model.json."""
        return (
            "Resize the image to the input's height and width: averaging over areas if that has fewer pixels, else "
            "bilinearly; round to 8 bits. Resize the output back to the image's size bilinearly, without smoothing "
            "(align_corners=False)."
        )

    @abstractmethod
    def export_output(self, size: tuple[int, int]) -> dict[str, Any]:
        """The output of an exported model: "name", "shape", "meaning" and values for its example code.

        Args:
            size: (height, width) of the model's input images
        """

    example: ClassVar[Callable[..., str]]
    """Source of ``save_result`` in an exported model's example: (outputs, image, boxes, facts) -> name of the file."""

    @classmethod
    def example_code(cls) -> str:
        """The text of processing.py next to an exported model, which needs only NumPy and Pillow."""
        shared = (resources.files("metaprompts.tasks") / "standalone" / "dense.py").read_text(encoding="utf-8")
        return f"{shared}\n\n{inspect.getsource(cls.example)}"


AnyTask = Task | type[Task]
"""A task, or its class where class attributes are enough."""


@dataclass(frozen=True, kw_only=True)
class FusedTask(Task):
    """A task whose head reads one map, fused from all levels.

    Attributes:
        upsample: how fused rearrangement and head enlarge maps: "transposed" convolutions, as released, which cause
            checkerboard artifacts in smooth predictions, or "resize" (bilinear) and a 3x3 convolution
    """

    fused: ClassVar[bool] = True

    upsample: Upsampling = "transposed"

    def rearrangement(self, levels: Sequence[int], prompt_channels: int, *, enabled: bool) -> nn.Module:
        """The rearrangement module for a pyramid with these channels."""
        from metaprompts.modules.meta_prompts import FusedRearrangement

        return FusedRearrangement(levels, prompt_channels, enabled=enabled, upsample=self.upsample)
