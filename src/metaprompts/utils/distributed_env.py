"""The processes started by torchrun, as described by the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from metaprompts.errors import InputError
from metaprompts.utils.lazy import lazy_module

if TYPE_CHECKING:
    import torch
    from torch import distributed
else:
    torch = lazy_module("torch")
    distributed = lazy_module("torch.distributed")

# The first process to finish waits this long for the last.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Processes:
    """The rank of this process and the world size.

    Attributes:
        rank: 0 for the process that writes files and logs
        count: number of processes
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until every process has reached this point."""
        if self.count > 1:
            distributed.barrier()


def process_count() -> int:
    """The number of processes that torchrun started; 1 without torchrun.

    Raises:
        InputError: WORLD_SIZE is not a count, or torchrun's other variables are missing or inconsistent
    """
    count = _from_environment("WORLD_SIZE", "1", least=1)
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if count > 1 and missing:
        raise InputError(
            f"the environment has WORLD_SIZE={count}, but no {', no '.join(missing)}: start with torchrun, or unset "
            "WORLD_SIZE"
        )
    if count > 1:
        _from_environment("MASTER_PORT", "", least=1)
        if (rank := _from_environment("RANK", "", least=0)) >= count:
            raise InputError(f"the environment has RANK={rank} and WORLD_SIZE={count}; expected a rank below {count}")
    return count


def process_rank() -> int:
    """The rank of this process; 0 without torchrun, even if RANK is set.

    Raises:
        InputError: see `process_count`
    """
    return int(os.environ["RANK"]) if process_count() > 1 else 0


def is_first_process() -> bool:
    """Whether this is rank 0, which reports for all processes of torchrun."""
    return process_rank() == 0


def _from_environment(name: str, default: str, *, least: int) -> int:
    text = os.environ.get(name, default)
    if not text.isdecimal() or int(text) < least:
        raise InputError(f"the environment has {name}={text!r}; expected {least} or more, as set by torchrun: unset it")
    return int(text)


def launch_command() -> list[str]:
    """The torchrun command line that started this process; empty without torchrun."""
    if "WORLD_SIZE" not in os.environ:
        return []
    machines, here = os.environ.get("GROUP_WORLD_SIZE", "1"), os.environ.get("LOCAL_WORLD_SIZE", "1")
    # With several machines, each machine has its own rank.
    meeting = ["--nnodes", machines, "--node-rank", "NUMBER"] if machines != "1" else []
    for option, name in (("--master-addr", "MASTER_ADDR"), ("--master-port", "MASTER_PORT")) if meeting else ():
        meeting += [option, os.environ.get(name, name)]
    return ["torchrun", *(meeting or ["--standalone"]), "--nproc-per-node", here, "-m"]


@contextmanager
def processes(backend: str = "gloo", timeout: timedelta = _PATIENCE) -> Iterator[Processes]:
    """Join the process group that torchrun started; without torchrun this process is alone."""
    count = process_count()
    if count > 1:
        distributed.init_process_group(backend, timeout=timeout)
    try:
        yield Processes(distributed.get_rank() if count > 1 else 0, count)
    finally:
        # Accelerate creates a group even for a single process.
        if distributed.is_initialized():
            distributed.destroy_process_group()


def local_device(device: str | None) -> str | None:
    """The device of this process; if a machine has several GPUs, each process uses its own."""
    place = os.environ.get("LOCAL_RANK")
    if place is None or device not in (None, "cuda") or not torch.cuda.is_available():
        return device
    return f"cuda:{int(place) % torch.cuda.device_count()}"
