"""Readers in a process of their own, whose time and memory are limited."""

import multiprocessing
import os
import resource
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from metaprompts.errors import InputError

SECONDS = 20
"""Of the processor: what else the machine does must not matter."""
STUCK_SECONDS = 300
"""Of the clock, for a reader that waits for something."""
BYTES = 3 * 2**29
VALUE, REFUSED = "a value", "an InputError of one line"

Read = Callable[[Path], Any]


class Worker:
    """A forked process that reads files one after the other, and is started anew when it hangs or dies.

    Args:
        read: the reader; it gets the folder of the file
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self._process: Any = None

    def answer(self, folder: Path) -> str:
        """Read a file.

        Returns:
            VALUE or REFUSED, else what is wrong with how the reader takes it
        """
        if self._process is None:
            context = multiprocessing.get_context("fork")
            self._pipe, far = context.Pipe()
            self._process = context.Process(target=_serve, args=(self._read, far), daemon=True)
            self._process.start()
            far.close()
        self._pipe.send(folder)
        try:
            used, ends = _processor_seconds(self._process.pid), time.monotonic() + STUCK_SECONDS
            while _processor_seconds(self._process.pid) - used < SECONDS and time.monotonic() < ends:
                if self._pipe.poll(1):
                    return str(self._pipe.recv())
            complaint = f"hangs for more than {SECONDS} s"
        except EOFError:
            complaint = "the process died"
        self.close()
        return complaint

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None


def _serve(read: Read, pipe: Any) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.dup2(null, 1)
    torch.set_num_threads(1)
    limit = _virtual_bytes() + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    while True:
        try:
            folder = pipe.recv()
        except EOFError:
            os._exit(0)
        pipe.send(_answer(read, folder))


def _answer(read: Read, folder: Path) -> str:
    try:
        read(folder)
    except InputError as error:
        text = str(error)
        if "\n" in text or "\r" in text:
            return f"an error of several lines: {text!r}"
        return REFUSED
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "metaprompts" in frame.filename]
        last = ours[-1] if ours else where
        return f"{type(error).__name__}: {str(error)[:300]} in {last.filename}:{last.lineno}"
    return VALUE


def _processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _virtual_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
