"""The model config: the typed content of config.json."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from metaprompts.errors import InputError
from metaprompts.tasks import task_class
from metaprompts.tasks.base import Task
from metaprompts.utils.schema import Range, check_ranges, convert, from_dict, to_dict, type_hints, unknown_key

NAME_PLACE = "{}"
"""The placeholder for a label in a template."""


@dataclass(frozen=True, kw_only=True)
class Second:
    """The image backbone of the second encoder, which is frozen; an adapter's weights do not include it.

    Attributes:
        source: the encoder's source, see `load_second`
        fingerprint: fingerprint of its weights
        network: the encoder's config in transformers
        mean: mean of the red, green and blue pixels in [0, 1] that it was trained with
        std: standard deviation of the same pixels, for each color
    """

    source: str
    fingerprint: str
    network: dict[str, Any]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The configs of the backbone's networks.

    Attributes:
        unet: UNet2DConditionModel's config
        vae: AutoencoderKL's config
        second: the second encoder; None if there is none
    """

    unet: dict[str, Any]
    vae: dict[str, Any]
    second: Second | None = None


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """The prompts, which replace the UNet's text context, and against which pixels are scored.

    Attributes:
        kind: "meta": learned embeddings, as in the paper. "label": names, encoded once by the backbone's text encoder.
            "caption": all tokens of each image's caption
        count: N, for meta prompts; for other kinds this value is replaced by the number of labels, or of tokens in a
            padded caption
        per_step: (meta) one set per refinement step instead of a shared one; (label, caption) one adapter per step
        adapter: whether each set goes through an MLP; for text, the MLP is residual, and learned factors, initially
            small, scale its output
        labels: (label) the names; none for the names of the task's classes or joints
        templates: (label) sentences in which {} stands for the name, and whose tokens are averaged; none for a short
            built-in list
        text_source: (label, caption) source of the text encoder: hub id, diffusers folder or "micro"; none for the
            backbone's source
        text_fingerprint: fingerprint of the text encoder's weights; none to accept any
    """

    kind: Literal["meta", "label", "caption"] = "meta"
    count: Annotated[int, Range(1, 16384)] = 150
    per_step: bool = False
    adapter: bool = False
    labels: tuple[str, ...] | None = None
    templates: tuple[str, ...] | None = None
    text_source: str | None = None
    text_fingerprint: str | None = None

    def __post_init__(self) -> None:
        check_ranges(self, "prompts")
        if self.kind != "meta" and self.per_step and not self.adapter:
            raise InputError(
                f"prompts.per_step gives {self.kind} prompts an adapter for each step, but prompts.adapter is false: "
                "set adapter to true, or omit per_step"
            )
        if self.labels is not None and not all(label.strip() for label in self.labels or ("",)):
            raise InputError(f"prompts.labels is {list(self.labels)}; expected a name for each prompt")
        for template in self.templates if self.templates is not None else (NAME_PLACE,):
            if template.count(NAME_PLACE) != 1:
                raise InputError(
                    f"prompts.templates has {template!r}; expected sentences with exactly one {NAME_PLACE} each"
                )
        if self.templates == ():
            raise InputError(f"prompts.templates is empty; expected sentences with one {NAME_PLACE} each, or none")


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """Recurrent refinement.

    Attributes:
        steps: number of steps, K
        modulated_time: one time vector per step instead of a shared one
        time_std: standard deviation of the time vectors before training
        match_latent: normalize each output that is fed back, so that each channel has the latent's mean and standard
            deviation
        detach: stop gradients between steps
    """

    steps: Annotated[int, Range(1, 64)] = 3
    modulated_time: bool = True
    time_std: Annotated[float, Range(0, 100)] = 1.0
    match_latent: bool = False
    detach: bool = False

    def __post_init__(self) -> None:
        check_ranges(self, "refinement")


@dataclass(frozen=True, kw_only=True)
class Rearrangement:
    """Prompts-guided feature rearrangement.

    Attributes:
        enabled: if False, the head gets the projected features instead of the maps
    """

    enabled: bool = True


@dataclass(frozen=True, kw_only=True)
class Base:
    """The frozen backbone of an adapter; the backbone's weights are not saved with the model.

    Attributes:
        source: the backbone's source, see `load_backbone`
        fingerprint: fingerprint of the backbone's weights
    """

    source: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters (LoRA) on the UNet's attention.

    Attributes:
        rank: rank of the update of each projection
        alpha: the update is scaled by alpha / rank
    """

    rank: Annotated[int, Range(1, 4096)] = 8
    alpha: Annotated[float, Range(0, 1e6, above=True)] = 8.0

    def __post_init__(self) -> None:
        check_ranges(self, "lora")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything needed to build a model.

    Attributes:
        task: settings of the task
        backbone: the backbone's architecture
        prompts: the prompts, with resolved labels and count
        refinement: the recurrent refinement
        rearrangement: the feature rearrangement
        scaled_latent: whether the latent is multiplied by the VAE's scaling factor before the UNet sees it, as in the
            UNet's own training; the released models do not
        working_size: (height, width) of the training images; `predict` resizes images to that area
        base: the frozen backbone; None if the backbone was trained and is saved with the rest
        lora: the low-rank layers added to the UNet's attention; None if there are none
        supervised_steps: whether every refinement step was trained (training.step_decay), not only the last
        step_tolerance: mean disagreement of two successive steps at which ``--steps auto`` stops; None if it was not
            calibrated
    """

    task: Task
    backbone: Architecture
    prompts: Prompts = field(default_factory=Prompts)
    refinement: Refinement = field(default_factory=Refinement)
    rearrangement: Rearrangement = field(default_factory=Rearrangement)
    scaled_latent: bool = False
    working_size: tuple[Annotated[int, Range(1, 65536)], Annotated[int, Range(1, 65536)]] | None = None
    base: Base | None = None
    lora: Lora | None = None
    supervised_steps: bool = False
    step_tolerance: Annotated[float, Range(0, 1)] | None = None

    def __post_init__(self) -> None:
        check_ranges(self, "")
        if self.lora is not None and self.base is None:
            raise InputError("config.json has 'lora' but no 'base': name the backbone to which it belongs")
        labels = self.prompts.labels or ()
        if self.prompts.kind == "label" and len(labels) != self.prompts.count:
            raise InputError(f"prompts.count is {self.prompts.count}, but there are {len(labels)} prompts.labels")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelConfig":
        """Read the content of a config.json.

        Raises:
            InputError: the content is not a config of this package, or a value is wrong
        """
        if not isinstance(values, Mapping) or not {"task", "backbone"} <= values.keys():
            raise InputError("this config.json is not from a metaprompts model: it has no 'task' and 'backbone'")
        hints = type_hints(cls)
        for key in values:
            if key not in hints:
                raise InputError(unknown_key(key, list(hints)))
        made = {key: convert(hints[key], value, key) for key, value in values.items() if key != "task"}
        return cls(task=build_task(values["task"]), **made)

    def to_dict(self) -> dict[str, Any]:
        """The content of a config.json; `from_dict` reads it."""
        values: dict[str, Any] = to_dict(self)
        values["task"] = {"name": self.task.name, **values["task"]}
        return values


def build_task(values: Mapping[str, Any]) -> Task:
    """Create a task from its settings and its ``name``.

    Raises:
        InputError: the task or one of its settings is unknown or wrong
    """
    if not isinstance(values, Mapping):
        raise InputError(f"task is {values!r}; expected a section of keys")
    settings = {key: value for key, value in values.items() if key != "name"}
    return from_dict(task_class(values.get("name")), settings, "task")
