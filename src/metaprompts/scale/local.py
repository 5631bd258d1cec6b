"""Label slices with processes on this machine."""

import os
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from metaprompts.errors import InputError
from metaprompts.scale.job import Done, LabelJob, MakeWork, SliceLabeler, Work
from metaprompts.scale.source import Slice
from metaprompts.utils.multiprocessing import prepare_worker

# Give up on a slice after this many workers have died while labeling it.
_TRIES = 3


def label_here(job: LabelJob, slices: Iterator[Slice]) -> Iterator[Done]:
    """Label slices in this process, in order."""
    work: Work | None = None
    for part in slices:
        work = work or SliceLabeler(job)
        yield work(part)


def label_in_processes(
    job: LabelJob, slices: Iterator[Slice], workers: int, make_work: MakeWork = SliceLabeler
) -> Iterator[Done]:
    """Label slices with several processes, and yield results as they finish; killed processes are replaced.

    Args:
        job: the labeling job
        slices: the slices; one is read whenever a process is free
        workers: number of processes; several GPUs are shared among them
        make_work: makes the object that labels a job's slices on a device

    Raises:
        InputError: raised by a process, or several processes died while labeling one slice
    """
    threads = max(1, (os.cpu_count() or 1) // workers)
    free = [_Worker(job, number, threads, make_work) for number in range(workers)]
    busy: dict[Connection, tuple[_Worker, Slice, int]] = {}
    new, again = ((part, 0) for part in slices), list[tuple[Slice, int]]()
    try:
        while True:
            while free and (following := again.pop() if again else next(new, None)) is not None:
                worker = free.pop()
                worker.give(following[0])
                busy[worker.pipe] = (worker, *following)
            if not busy:
                return
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                worker, part, tries = busy.pop(pipe)
                found = worker.result()
                if isinstance(found, Done):
                    free.append(worker)
                    yield found
                else:
                    again.append((part, _counted(tries, part, found)))
                    free.append(_Worker(job, worker.number, threads, make_work))
    finally:
        for worker in [*free, *(worker for worker, _, _ in busy.values())]:
            worker.end()


def _counted(tries: int, part: Slice, code: int | None) -> int:
    if tries + 1 == _TRIES:
        raise InputError(
            f"{_TRIES} worker processes ended (exit code {code}) while labeling {len(part.items)} images, the first of "
            f"them {part.items[0].name}: if memory runs out, use fewer --workers, or a smaller --batch-size"
        )
    return tries + 1


class _Worker:
    def __init__(self, job: LabelJob, number: int, threads: int, make_work: MakeWork) -> None:
        self.number = number
        gpus = torch.cuda.device_count() if job.options.get("device") in (None, "cuda") else 0
        device = f"cuda:{number % gpus}" if gpus else None
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, threads, make_work, job, device)
        self._process: BaseProcess = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()

    def give(self, part: Slice) -> None:
        # If the process was killed while idle, reading its result shows that.
        with suppress(OSError):
            self.pipe.send(part)

    def result(self) -> Done | int | None:
        """The result, or the exit code if the process ended.

        Raises:
            InputError: raised by the process
        """
        try:
            found = self.pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            return self._process.exitcode
        if isinstance(found, BaseException):
            raise found
        assert isinstance(found, Done)
        return found

    def end(self) -> None:
        self._process.terminate()
        self._process.join()
        self.pipe.close()


def _serve(pipe: Connection, threads: int, make_work: MakeWork, job: LabelJob, device: str | None) -> None:
    prepare_worker()
    torch.set_num_threads(threads)
    work: Work | None = None
    while True:
        try:
            part = pipe.recv()
        except EOFError:
            return
        try:
            work = work or make_work(job, device)
            pipe.send(work(part))
        except Exception as error:
            pipe.send(error)
