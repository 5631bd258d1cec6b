"""Worker processes that each hold a copy of a model."""

import logging
import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import torch

from metaprompts.errors import InputError
from metaprompts.utils.batches import batched
from metaprompts.utils.multiprocessing import prepare_worker

T = TypeVar("T")

# Jobs of each worker: more move the progress bar, fewer let a worker read images ahead.
_JOBS_EACH = 16


def in_chunks(groups: Sequence[T], workers: int) -> list[list[T]]:
    """Consecutive groups as the jobs of workers."""
    return [list(chunk) for chunk in batched(groups, max(1, len(groups) // (workers * _JOBS_EACH)))]


def in_model_workers(work: Callable[..., T], jobs: Sequence[tuple[Any, ...]], workers: int) -> Iterator[T]:
    """Run jobs in parallel, and yield their results in the order of the jobs.

    Args:
        work: a module-level function, which loads the model in its first call
        jobs: arguments of each call; arguments and results are pickled
        workers: number of processes; they share the CPU cores, unless OMP_NUM_THREADS says otherwise

    Raises:
        InputError: a process was killed, or raised this error
    """
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)), multiprocessing.get_context("spawn"), initializer=_prepare, initargs=(workers,)
    )
    futures: list[Future[T]] = [pool.submit(work, *job) for job in jobs]
    try:
        for future in futures:
            yield future.result()
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process was killed: if memory is short, lower --workers; run the same command again to resume"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def worker_device(device: str | None) -> str | None:
    """The device of this worker; workers share all GPUs."""
    if device not in (None, "cuda") or not torch.cuda.is_available():
        return device
    # Processes are named SpawnProcess-1, SpawnProcess-2, ...
    number = multiprocessing.current_process().name.rpartition("-")[2]
    return f"cuda:{int(number) % torch.cuda.device_count()}"


def _prepare(workers: int) -> None:
    prepare_worker()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    # The main process has said everything already.
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
