"""Data-parallel training: each process trains on its share of every batch."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing import get_context
from multiprocessing.context import SpawnContext
from multiprocessing.synchronize import Event
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, distributed, nn

from metaprompts.utils.distributed_env import Processes
from metaprompts.utils.multiprocessing import prepare_worker

_LOOK_SECONDS = 0.5


class ProcessGroup(Processes):
    """One process of a data-parallel group; by default the only one."""

    def share(self, batch: Tensor) -> Tensor:
        """This process's rows of (B, ...); B is a multiple of the number of processes."""
        return batch[self.rank :: self.count]

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all processes, which must all call this."""
        if self.count == 1:
            return values
        values = values.clone()
        distributed.all_reduce(values)
        return values / self.count

    def in_pass(self, *, is_last: bool) -> AbstractContextManager[Any]:
        """The context of a forward and backward pass of a step."""
        del is_last
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss."""
        loss.backward()  # type: ignore[no-untyped-call]

    def exchange(self, model: nn.Module) -> None:
        """After the last backward pass: average gradients over all processes."""
        self.average([parameter.grad for parameter in model.parameters() if parameter.grad is not None])

    def clip(self, model: nn.Module, optimizer: torch.optim.Optimizer, largest_norm: float) -> None:
        """Clip the total gradient norm."""
        del optimizer
        torch.nn.utils.clip_grad_norm_(model.parameters(), largest_norm)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors with their mean over all processes, which must all call this."""
        if self.count == 1:
            return
        together = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(together)
        together /= self.count
        parts = torch.split(together, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))


SINGLE_PROCESS = ProcessGroup()


@contextmanager
def training_together(count: int, work: Callable[..., None], *arguments: Any) -> Iterator[ProcessGroup]:
    """Start processes that run ``work(process_group, *arguments)``, while the body does so in this process.

    Args:
        count: number of processes, including this one; 1 starts none
        work: a module-level function, so that processes can import it
        arguments: sent to the other processes

    Yields:
        the process group of this process

    Raises:
        RuntimeError: another process could not be started
    """
    if count == 1:
        yield SINGLE_PROCESS
        return
    context = get_context("spawn")
    with TemporaryDirectory() as folder:
        meeting = Path(folder) / "meeting"
        others = [_Other(context, rank, count, meeting, work, arguments) for rank in range(1, count)]
        try:
            for other in others:
                other.wait_until_ready()
            _init_process_group(0, count, meeting)
            yield ProcessGroup(0, count)
        finally:
            if distributed.is_initialized():
                distributed.destroy_process_group()
            for other in others:
                other.end()


class _Other:
    """Another process, as seen from the first."""

    def __init__(self, context: SpawnContext, rank: int, *arguments: Any) -> None:
        self._rank = rank
        self._ready = context.Event()
        self._process = context.Process(target=_follow, args=(self._ready, rank, *arguments), daemon=True)
        self._process.start()

    def wait_until_ready(self) -> None:
        """Wait until the process is about to join the group; the group would not notice an earlier exit."""
        while not self._ready.wait(_LOOK_SECONDS):
            if not self._process.is_alive():
                raise RuntimeError(f"training process {self._rank} exited during startup; see its output above")

    def end(self) -> None:
        self._process.terminate()
        self._process.join()


def _init_process_group(rank: int, count: int, meeting: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count)


def _follow(
    ready: Event, rank: int, count: int, meeting: Path, work: Callable[..., None], arguments: Sequence[Any]
) -> None:
    prepare_worker()
    ready.set()
    _init_process_group(rank, count, meeting)
    work(ProcessGroup(rank, count), *arguments)
    # The first process ends this one; until then, this process must receive the messages of the first.
    threading.Event().wait()
