"""Work spread over processes that end with the one that asked."""

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
    """Do jobs side by side, and yield their results as they come.

    Args:
        work: a function of a module, by which the processes find it; its arguments and result are sent between them
        jobs: arguments of each call
        workers: processes; 1 works in this one, in order
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
    """Make a process one that leaves Ctrl-C to the first process and ends with it."""
    # Ctrl-C goes to every process of a terminal: the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed process cannot end those that work for it, and they would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
