"""Engines, each in its own process, so that the memory of each can be measured."""

import os
import tempfile
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from metaprompts.engines.benchmark.engine_specs import EngineSpec
from metaprompts.engines.benchmark.runner import Subject, Timing
from metaprompts.engines.benchmark.workload import Workload
from metaprompts.engines.quantization.calibration import CalibrationOptions
from metaprompts.errors import InputError
from metaprompts.utils.multiprocessing import prepare_worker

_GRACE_S = 10


class EngineProcess:
    """An engine opened in its own process; its methods are those of `Subject`.

    Args:
        name: the engine's name in errors
        threads: number of compute threads; None for PyTorch's default
        what: arguments of `Subject`

    Attributes:
        opening_s: seconds that loading and opening took

    Raises:
        InputError: the engine does not open, or the process has died; methods raise it as well
    """

    def __init__(self, name: str, threads: int | None, *what: str | EngineSpec | Workload | CalibrationOptions) -> None:
        self._name = name
        self._output = tempfile.NamedTemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        context = get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, self._output.name, threads, what))
        self._process.start()
        # The process then holds the only other end, so that its death is noticed.
        other.close()
        try:
            self.opening_s: float = self._answer()
        except BaseException:
            self.close()
            raise

    def warm_up(self) -> float:
        """Predict for the first time; returns the seconds."""
        seconds: float = self._ask("warm_up")
        return seconds

    def predict(self) -> Timing:
        """Predict once."""
        timing: Timing = self._ask("predict")
        return timing

    def memory(self) -> dict[str, int]:
        """Bytes: "before" loading, peaks of "opening" and of "predicting", and "peak", the larger of these two."""
        memory: dict[str, int] = self._ask("memory")
        return memory

    def raw(self) -> NDArray[np.float32]:
        """The last prediction's raw output."""
        raw: NDArray[np.float32] = self._ask("raw")
        return raw

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(_GRACE_S)
        self._process.kill()
        self._process.join()
        self._output.close()

    def _ask(self, method: str) -> Any:
        try:
            self._connection.send(method)
        except OSError as error:
            raise InputError(self._death()) from error
        return self._answer()

    def _answer(self) -> Any:
        try:
            answer = self._connection.recv()
        except (OSError, EOFError) as error:
            raise InputError(self._death()) from error
        if isinstance(answer, InputError):
            raise InputError(f"{self._name}: {answer}")
        return answer

    def _death(self) -> str:
        self._process.join()
        code = self._process.exitcode or 0
        last = next((line.strip() for line in reversed(self._output.readlines()) if line.strip()), "no output")
        how = f"on signal {-code}, perhaps out of memory" if code < 0 else f"with code {code}"
        return f"the worker for {self._name} exited {how}: {last}"


def _serve(connection: Connection, output: str, threads: int | None, what: tuple[Any, ...]) -> None:
    """Open an engine, and call its methods by name until the other end closes.

    Args:
        connection: receives names, and sends results
        output: file for everything that this process and its libraries print
        threads: number of compute threads; None for PyTorch's default
        what: arguments of `Subject`
    """
    prepare_worker()
    with Path(output).open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(threads or torch.get_num_threads())
    cv2.setNumThreads(torch.get_num_threads())
    try:
        subject = Subject(*what)
        connection.send(subject.opening_s)
        while True:
            connection.send(getattr(subject, connection.recv())())
    except InputError as error:
        connection.send(error)
    except (EOFError, BrokenPipeError):
        return
