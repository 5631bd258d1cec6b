"""Compute the training memory of a recipe; nothing is allocated or downloaded."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from metaprompts.models.model import MetaPromptModel
from metaprompts.recipes.recipe import Recipe, Training
from metaprompts.training.batch_plan import batch_plan
from metaprompts.training.dummy import architecture, empty_batch, fake_model
from metaprompts.training.flops import Flops
from metaprompts.training.train_step import step_losses
from metaprompts.utils.memory_tracker import (
    GpuAutocast,
    MemoryTracker,
    WorstCaseMode,
    backward_within_modes,
    call_at_first_gradient,
)

ENCODER, FORWARD, BACKWARD = "encoder", "forward pass", "backward pass"

# bitsandbytes: one byte per moment, and one scaling float per 256 moments; small tensors stay in fp32.
_8BIT_BLOCK, _8BIT_SMALLEST = 256, 4096


@dataclass(frozen=True, kw_only=True)
class MemoryPeak:
    """Memory in use at the peak of a training step, in bytes.

    Attributes:
        weights: all weights and statistics, including the frozen encoder
        gradients: gradients at the peak, including those of earlier passes of the step
        moments: AdamW's two moments
        average: the weights' exponential moving average, if there is one
        exchange: a second copy of the gradients for exchange between processes (DDP)
        copies: copies of weights in the precision of the passes
        activations: activations saved for the backward pass, including those of the losses
        work: temporary tensors: those of the frozen encoder, gradients of activations, and recomputed layers
    """

    weights: int
    gradients: int
    moments: int
    average: int
    exchange: int
    copies: int
    activations: int
    work: int

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(getattr(self, part.name) for part in fields(self))


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """The memory of one run, in one process.

    Attributes:
        peak: memory at the peak of a step
        phase: the part of the step in which the peak occurs: "encoder", "forward pass" or "backward pass"
        kept: bytes saved by the forward pass for the backward pass
        parameters: number of parameters of the whole model
        trained: number of trained parameters
        images: images per pass
        passes: passes per step
        flops: floating-point operations per step, forward and backward, with two operations per multiplication in
            matrix products, convolutions and attention, see `Flops`
        size: (height, width) of the images that the backbone sees
        architecture: architecture of the backbone
    """

    peak: MemoryPeak
    phase: str
    kept: int
    parameters: int
    trained: int
    images: int
    passes: int
    flops: int
    size: tuple[int, int]
    architecture: str

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values; the parts of the peak include their total."""
        values = asdict(self)
        values["peak"]["total"] = self.peak.total
        return values


def training_memory(recipe: Recipe, processes: int = 1) -> TrainingMemory:
    """Compute the memory of a recipe's training step, per process.

    The step runs on fake tensors, which have only a shape, and all live tensors are counted. Loss and batch norm are
    those of a single process; masks are assumed to be fully labeled and to contain every class. Passes have the
    precision used on a GPU, unless training.device is "cpu".

    Args:
        recipe: the recipe to train
        processes: number of processes that share the step

    Raises:
        InputError: the step cannot be shared by this number of processes
    """
    recipe = replace(recipe, task=recipe.task.unfitted())
    # Loss grouping and batch statistics do not affect memory, so smaller micro-batches are allowed here.
    alone = replace(recipe, training=replace(recipe.training, loss_group_size=None, batch_norm="frozen"))
    split = batch_plan(alone, processes)
    images, passes = split.micro_batch, split.passes
    model = fake_model(alone if images == 1 else recipe, mode := FakeTensorMode())
    parameters = list(model.parameters())
    trained = [each for each in parameters if each.requires_grad]
    with mode:
        batch = empty_batch(recipe, images)
        size = model.task.resize_for_backbone(batch["image"]).shape[-2:]
        answers = WorstCaseMode(distinct=recipe.task.distinct_targets)
        with Flops() as flops:
            live, kept = pass_bytes(model, recipe, batch, earlier_gradients=passes > 1, answers=answers)
    return TrainingMemory(
        peak=_peak(model, recipe, live.peak, passes, processes),
        flops=passes * flops.total,
        phase=live.peak_phase,
        kept=kept,
        parameters=sum(each.numel() for each in parameters),
        trained=sum(each.numel() for each in trained),
        images=images,
        passes=passes,
        size=(size[0], size[1]),
        architecture=architecture(recipe.backbone.source),
    )


def _peak(model: MetaPromptModel, recipe: Recipe, held: Mapping[str, int], passes: int, processes: int) -> MemoryPeak:
    """The memory at the peak of a pass, including memory that is in use throughout."""
    trained = [each for each in model.parameters() if each.requires_grad]
    weights, gradients = _bytes([*model.parameters(), *model.buffers()]), _bytes(trained)
    # FSDP: in addition to its shard, a process has all weights during a pass, because every refinement step needs them.
    share = processes if recipe.training.fsdp else 1
    return MemoryPeak(
        weights=weights + (gradients // share if share > 1 else 0),
        gradients=gradients if passes > 1 else held.get("gradients", 0),
        moments=sum(moment_bytes(each, recipe.optimizer.kind) for each in trained) // share,
        average=0 if recipe.training.ema_decay is None else gradients // share,
        exchange=gradients if processes > 1 and share == 1 else 0,
        **{part: held.get(part, 0) for part in ("copies", "activations", "work")},
    )


def pass_bytes(
    model: MetaPromptModel,
    recipe: Recipe,
    batch: Mapping[str, Tensor],
    *,
    earlier_gradients: bool = False,
    answers: AbstractContextManager[object] | None = None,
) -> tuple[MemoryTracker, int]:
    """Run one forward and backward pass, and count its memory.

    Args:
        model: the model, in training mode, with fake or real tensors
        recipe: the model's recipe
        batch: inputs of model and losses, also fake or real
        earlier_gradients: whether gradients of earlier passes exist, to which those of this pass are added
        answers: context manager that lets losses read values of fake tensors

    Returns:
        the count, and the bytes saved by the forward pass for the backward pass
    """
    trained = [each for each in model.parameters() if each.requires_grad]
    if earlier_gradients:
        for each in trained:
            each.grad = torch.empty_like(each)
    live = MemoryTracker(
        [*model.parameters(), *model.buffers(), *(each.grad for each in trained if each.grad is not None)]
    )
    live.phase, live.label = ENCODER, "work"

    def leave_encoder(*_: object) -> None:
        live.phase, live.label = FORWARD, "activations"

    handle = model.latent_encoder.register_forward_hook(leave_encoder)
    is_gpu, is_half = torch.device(recipe.training.device or "cuda").type != "cpu", recipe.training.precision != "fp32"
    with live, GpuAutocast() if is_gpu and is_half else nullcontext():
        loss = _loss(model, batch, recipe.training, answers)
        kept = live.now["activations"] + live.now["copies"]
        if not earlier_gradients:
            call_at_first_gradient(loss, lambda parameter: live.move(_bytes([parameter]), "work", "gradients"))
        live.phase, live.label = BACKWARD, "work"
        backward_within_modes(loss)
    handle.remove()
    return live, kept


def _loss(
    model: MetaPromptModel,
    batch: Mapping[str, Tensor],
    settings: Training,
    answers: AbstractContextManager[object] | None,
) -> Tensor:
    # float16 takes as much memory as bfloat16.
    with nullcontext() if settings.precision == "fp32" else torch.autocast("cpu", torch.bfloat16):
        raw, auxiliary = model.training_outputs(batch["image"], every_step=settings.step_decay is not None)
    with answers or nullcontext():
        auxiliary = None if auxiliary is None else auxiliary.float()
        losses = step_losses(model.task, raw.float(), auxiliary, batch, None, settings.step_decay)
    return torch.stack(list(losses.values())).sum()


def moment_bytes(parameter: Tensor, kind: str) -> int:
    """Number of bytes of a parameter's two moments.

    Args:
        parameter: a trained parameter
        kind: "adamw" or "adamw_8bit"
    """
    if kind == "adamw" or parameter.numel() < _8BIT_SMALLEST:
        return 2 * 4 * parameter.numel()
    return 2 * (parameter.numel() + 4 * -(-parameter.numel() // _8BIT_BLOCK))


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(each.numel() * each.element_size() for each in tensors)
