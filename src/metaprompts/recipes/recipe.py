"""The typed recipe of a run, which is saved next to the weights; `loader` reads recipes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from metaprompts.errors import InputError
from metaprompts.models.config import Lora, Prompts, Rearrangement, Refinement, build_task
from metaprompts.recipes.sections import Optimizer, Schedule
from metaprompts.tasks import task_class
from metaprompts.tasks.base import Task
from metaprompts.tasks.protocol import EvaluationProtocol
from metaprompts.utils.schema import Range, check_ranges, from_dict, to_dict, unknown_key

_Steps = Annotated[int, Range(1, 10**9)]
_Batch = Annotated[int, Range(1, 65536)]
_TRACKERS = ("tensorboard", "wandb", "trackio", "mlflow")


@dataclass(frozen=True, kw_only=True)
class BackboneChoice:
    """The backbone to start from.

    Attributes:
        source: hub id, diffusers folder, single file, "micro", or "random:NAME"; see `load_backbone`
        second: a second, frozen encoder (DINOv2, DINOv3, ConvNeXt) whose maps are projected and added to the pyramid:
            hub id, folder or "random:NAME"; see `load_second`. none for the paper's model
        forget_unet: start from a random UNet with the source's VAE, to measure the effect of pre-training
        scaled_latent: multiply the latent by the VAE's scaling factor, as in the UNet's own training; the released
            recipes do not
        cache_latents: keep the frozen encoders' outputs in memory, up to 1 GiB each, which helps only if images repeat
            exactly
        latent_cache: folder that keeps these outputs in files instead, without a limit, for all processes and later
            runs
        gradient_checkpointing: recompute the UNet's layers in the backward pass, to save memory
        channels_last: use the channels-last memory format, which some GPUs prefer
    """

    source: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    second: str | None = None
    forget_unet: bool = False
    scaled_latent: bool = False
    cache_latents: bool = False
    latent_cache: Path | None = None
    gradient_checkpointing: bool = False
    channels_last: bool = False


@dataclass(frozen=True, kw_only=True)
class Training:
    """Length, batch and output of training.

    Attributes:
        steps: optimizer steps; or give ``epochs``
        epochs: passes over the training split; or give ``steps``
        batch_size: images per step, over all processes
        micro_batch_size: images per forward pass, whose gradients are accumulated: smaller passes need less memory. If
            none, one pass has all images of a process
        loss_group_size: consecutive images that share a loss; if none, all images of a pass. The released recipes share
            losses among the images of one GPU, which affects the depth and Lovasz losses. With a fixed number, a step
            does not depend on how it is split into passes
        fit_processes: if batch or groups do not divide evenly, use the next larger batch and the largest loss group
            that do, and log the change; released recipes keep their batch and groups
        batch_norm: statistics in training: "local" (of each pass), "sync" (over the passes of all processes), or
            "frozen" (the model's initial statistics)
        step_decay: train every refinement step, not only the last: step k's loss is weighted by step_decay^(K - k).
            Prediction can then use fewer steps; a training step takes 1.4 to 1.9 times as long. None trains only the
            last step, as released
        precision: precision of forward and backward passes: "fp32", "bf16" or "fp16" (with scaled gradients); all else
            is in fp32
        fsdp: with several processes, shard weights, gradients and moments (FSDP2); else each process holds all (DDP)
        compile: compile the model first (torch.compile)
        ema_decay: decay of the exponential moving average of the weights; the average is validated and saved instead of
            the weights; the first steps use a lower decay, (1 + step) / (10 + step). None to keep no average
        report_to: trackers for live metrics: tensorboard, wandb, trackio, mlflow; none to use no tracker
        seed: random seed
        trainable: "full"; or, with a frozen backbone that is not saved: "lora" (low-rank updates of the UNet's
            attention, and all parts except the UNet) or "prompts" (all parts except the UNet)
        lora_rank: rank of the low-rank updates
        lora_alpha: scale of the low-rank updates is alpha / rank
        init_from: a trained model, whose weights are copied where they fit: a folder (for example runs/first/best), a
            hub id, or an embedded model (for example micro-segmentation); none for the backbone's weights alone
        validate_every: steps between validations; the last step is always validated
        early_stopping: stop after this many consecutive validations without a better mIoU, RMSE or AP; none to never
            stop early
        val_batch_size: images per validation pass; must be 1 if images differ in size
        output_dir: folder for models, metrics, checkpoints and the resolved recipe
        checkpoint_seconds: time between checkpoints, from which --resume auto resumes
        save_total_limit: number of checkpoints to keep
        device: cpu, cuda, cuda:0, mps; none for the GPU if there is one
        num_threads: PyTorch's CPU threads; none for its default
    """

    batch_size: _Batch
    steps: _Steps | None = None
    epochs: _Steps | None = None
    micro_batch_size: _Batch | None = None
    loss_group_size: _Batch | None = None
    fit_processes: bool = True
    batch_norm: Literal["local", "sync", "frozen"] = "local"
    step_decay: Annotated[float, Range(0, 1, above=True)] | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    fsdp: bool = False
    compile: bool = False
    ema_decay: Annotated[float, Range(0, 1, below=True)] | None = None
    report_to: tuple[str, ...] | None = ("tensorboard",)
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    trainable: Literal["full", "lora", "prompts"] = "full"
    lora_rank: Annotated[int, Range(1, 4096)] = 8
    lora_alpha: Annotated[float, Range(0, 1e6, above=True)] = 8.0
    init_from: str | None = None
    validate_every: _Steps = 1000
    early_stopping: _Steps | None = None
    val_batch_size: _Batch = 1
    output_dir: Path = Path("runs/latest")
    checkpoint_seconds: Annotated[float, Range(0, 1e9)] = 600.0
    save_total_limit: Annotated[int, Range(1, 10**6)] = 2
    device: str | None = None
    num_threads: Annotated[int, Range(1, 4096)] | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise InputError("expected exactly one of training.steps and training.epochs")
        check_ranges(self, "training")
        for name in self.report_to or ():
            if name not in _TRACKERS:
                raise InputError(f"training.report_to has {name!r}; expected some of {', '.join(_TRACKERS)}, or none")
        if self.trainable != "full" and self.init_from is not None:
            raise InputError(
                f"training.init_from replaces the UNet, but training.trainable {self.trainable} keeps it: pass "
                "--training.init_from none"
            )

    @property
    def lora(self) -> Lora | None:
        """The LoRA config, if the UNet is trained by low-rank layers."""
        return Lora(rank=self.lora_rank, alpha=self.lora_alpha) if self.trainable == "lora" else None

    def total_steps(self, images: int, batch: int | None = None) -> int:
        """Optimizer steps of the whole run, for a split of ``images`` images and ``batch`` images per step."""
        return self.steps or (self.epochs or 0) * max(images // (batch or self.batch_size), 1)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A complete recipe.

    Attributes:
        task: the task to train
        backbone: initial UNet and VAE
        prompts: the meta prompts
        refinement: the recurrent refinement
        rearrangement: the feature rearrangement
        data: location of the images
        augment: random transforms in training
        optimizer: AdamW
        schedule: learning-rate schedule
        training: length, batch, output
        test: how the validation split is predicted for scoring
    """

    task: Task
    data: Any
    augment: Any
    optimizer: Optimizer
    training: Training
    test: EvaluationProtocol
    backbone: BackboneChoice = field(default_factory=BackboneChoice)
    prompts: Prompts = field(default_factory=Prompts)
    refinement: Refinement = field(default_factory=Refinement)
    rearrangement: Rearrangement = field(default_factory=Rearrangement)
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        if self.training.batch_size < self.task.smallest_pass:
            raise InputError(
                f"training.batch_size is {self.training.batch_size}; {self.task.name} needs at least "
                f"{self.task.smallest_pass}"
            )
        self.task.check_trainable()
        if self.training.early_stopping is not None and not self.data.validates:
            raise InputError(
                f"training.early_stopping is {self.training.early_stopping}, but data.val is none, so no validation "
                "score can stop training: omit early_stopping, or pass --data.val 0.1"
            )
        if self.training.trainable != "full" and (
            self.backbone.forget_unet or self.backbone.source.startswith("random:")
        ):
            raise InputError(
                f"training.trainable {self.training.trainable} keeps the UNet unchanged, but this UNet would be "
                "random: choose a trained backbone.source"
            )
        if self.training.trainable != "full" and (self.backbone.second or "").startswith("random:"):
            raise InputError(
                f"training.trainable {self.training.trainable} saves no backbone.second, but {self.backbone.second} "
                "would be random and could not be loaded again: choose a hub id or a folder"
            )

    @property
    def images_repeat(self) -> bool:
        """Whether training sees each image, or its mirror image, bit-identical in every epoch."""
        return bool(self.augment.keeps_images(self.data))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """Create a recipe from sections of keys.

        Raises:
            InputError: a section or key is unknown or missing, or a value is wrong
        """
        task = build_task(values.get("task", {}))
        sections = section_types(task.name)
        for key in values:
            if key != "task" and key not in sections:
                raise InputError(unknown_key(key, ["task", *sections]))
        return cls(task=task, **{key: from_dict(kind, values.get(key, {}), key) for key, kind in sections.items()})

    def to_dict(self) -> dict[str, Any]:
        """The recipe as sections of keys, which `from_dict` reads."""
        values: dict[str, Any] = to_dict(self)
        values["task"] = {"name": self.task.name, **values["task"]}
        return values


def section_types(task: str) -> dict[str, type[Any]]:
    """The dataclass of each section of a task's recipes, except ``task`` itself."""
    kind = task_class(task)
    return {
        "backbone": BackboneChoice,
        "prompts": Prompts,
        "refinement": Refinement,
        "rearrangement": Rearrangement,
        "data": kind.data,
        "augment": kind.augment,
        "optimizer": Optimizer,
        "schedule": Schedule,
        "training": Training,
        "test": kind.protocol,
    }
