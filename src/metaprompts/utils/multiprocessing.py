"""Run jobs in worker processes that end with their parent."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

import cv2

T = TypeVar("T")


def in_processes(work: Callable[..., T], jobs: Sequence[tuple[Any, ...]], workers: int) -> Iterator[T]:
    """Run jobs in parallel, and yield results as they finish.

    Args:
        work: a module-level function, so that processes can import it; arguments and results are pickled
        jobs: arguments of each call
        workers: number of processes; 1 runs in this process, in order
    """
    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            yield work(*job)
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=prepare_worker)
    try:
        for done in as_completed([pool.submit(work, *job) for job in jobs]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def prepare_worker() -> None:
    """Make this process ignore Ctrl-C and end with its parent."""
    # Ctrl-C goes to every process of a terminal, but the main process ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End with the parent: a killed process cannot end its workers, which would wait for work forever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
