"""Distributed training of one model over the processes that torchrun starts; usually a single process."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn

from metaprompts.errors import InputError
from metaprompts.models.model import MetaPromptModel
from metaprompts.training.data_parallel import ProcessGroup
from metaprompts.training.fsdp import shard
from metaprompts.training.logger import TRACKED_FOLDER, check_trackers
from metaprompts.utils.device import pick_device
from metaprompts.utils.distributed_env import local_device, process_count, processes

if TYPE_CHECKING:
    from accelerate import Accelerator

    from metaprompts.recipes.recipe import Training

# While rank 0 saves, the others wait.
_PATIENCE = timedelta(hours=2)
_MIXED = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


class DistributedContext(ProcessGroup):
    """One process of a distributed run, and the precision in which it computes.

    Args:
        accelerator: accelerator of the process
        device: compute device
        fsdp: whether to shard the model over the processes, if there are several
    """

    def __init__(self, accelerator: "Accelerator", device: torch.device, *, fsdp: bool = False) -> None:
        is_alone = not distributed.is_initialized()
        super().__init__(*((0, 1) if is_alone else (distributed.get_rank(), distributed.get_world_size())))
        self.accelerator = accelerator
        self.device = device
        self.shards = fsdp and not is_alone
        self._joined: nn.Module | None = None
        self._sharded: MetaPromptModel | None = None

    def shard(self, model: MetaPromptModel) -> None:
        """Shard a model over the processes, if FSDP is on."""
        if self.shards:
            shard(model, self.device.type)
            self._sharded = model

    def wrap_ddp(self, one_pass: nn.Module) -> nn.Module:
        """Wrap the module in DDP, so that gradients are means over the processes."""
        if self.count > 1 and not self.shards:
            self._joined = one_pass = self.accelerator.prepare_model(one_pass, device_placement=False)
        return one_pass

    def prepare_optimizer(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Prepare the optimizer for scaled gradients if the precision needs them."""
        if self.accelerator.scaler is None:
            return optimizer
        prepared: torch.optim.Optimizer = self.accelerator.prepare_optimizer(optimizer, device_placement=False)
        return prepared

    @contextmanager
    def in_pass(self, *, is_last: bool) -> Iterator[None]:
        """Compute in the recipe's precision, and exchange gradients in the last pass only."""
        if self._sharded is not None:
            self._sharded.set_requires_gradient_sync(is_last)  # type: ignore[operator]
        alone = self._joined is None or is_last
        with nullcontext() if alone else self.accelerator.no_sync(self._joined):
            yield

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss, scaled if the precision needs it."""
        self.accelerator.backward(loss)

    def exchange(self, model: nn.Module) -> None:
        """No-op: DDP and FSDP exchange gradients during the backward pass."""

    def clip(self, model: nn.Module, optimizer: torch.optim.Optimizer, largest_norm: float) -> None:
        """Clip the gradient norm of the whole model."""
        if self.accelerator.scaler is not None:
            self.accelerator.unscale_gradients(optimizer)
        super().clip(model, optimizer, largest_norm)

    def autocast(self) -> AbstractContextManager[Any]:
        """Autocast to the recipe's precision."""
        context: AbstractContextManager[Any] = self.accelerator.autocast()
        return context

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether any process has set it; all processes must call this."""
        if self.count == 1:
            return list(flags)
        found = torch.tensor(flags, dtype=torch.float32)
        distributed.all_reduce(found)
        return [value > 0 for value in found.tolist()]

    def gather(self, value: Any) -> list[Any]:
        """The value of every process, by rank; all processes must call this."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value)
        return values


@contextmanager
def distributed_context(settings: "Training") -> Iterator[DistributedContext]:
    """Join the process group that torchrun started; without torchrun, this process is alone.

    Raises:
        InputError: the device or the precision is unavailable, or another process ended
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import ProjectConfiguration

    check_trackers(settings.report_to)
    device = pick_device(local_device(settings.device))
    if settings.precision == "fp16" and device.type == "cpu":
        raise InputError("training.precision fp16 needs a GPU: choose bf16 or fp32 on a CPU")
    if device.type == "cuda" and process_count() > 1:
        torch.cuda.set_device(device)
    # Python objects and CPU tensors go over gloo.
    with processes("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", _PATIENCE):
        try:
            accelerator = Accelerator(
                cpu=device.type == "cpu",
                mixed_precision=_MIXED[settings.precision],
                device_placement=False,
                log_with=list(settings.report_to or ()) or None,
                project_config=ProjectConfiguration(logging_dir=str(settings.output_dir / TRACKED_FOLDER)),
            )
            with _naming_the_lost():
                yield DistributedContext(accelerator, device, fsdp=settings.fsdp)
        finally:
            # Accelerate keeps the first precision it is given for the lifetime of the process.
            AcceleratorState._reset_state(reset_partial_state=True)


@contextmanager
def _naming_the_lost() -> Iterator[None]:
    """Replace the opaque errors of collectives, after another process has ended, with one clear line."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise InputError(
                "another process of this run has exited (see its own message): restart all processes with --resume auto"
            ) from error
        raise
