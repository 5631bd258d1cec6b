"""The client side of a benchmark worker process."""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, Self

import metaprompts
from metaprompts.engines.benchmark.engine_specs import EngineSpec
from metaprompts.engines.benchmark.runner import Timing
from metaprompts.engines.benchmark.workload import Workload
from metaprompts.errors import InputError

_GRACE_S = 10


class BenchmarkClient(Protocol):
    """Interface of a benchmark worker, see `worker.Worker`."""

    def ask(self, do: str, **what: Any) -> dict[str, Any]:
        """Send a request; returns the answer."""

    def close(self) -> None:
        """End it."""


class WorkerProcess:
    """A worker process that opens engines and predicts.

    Args:
        name: its name in errors
        threads: number of compute threads; None for PyTorch's default
    """

    def __init__(self, name: str, threads: int | None) -> None:
        self._name = name
        self._stderr = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        found = [str(Path(metaprompts.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, found))}
        words = [] if threads is None else [str(threads)]
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "metaprompts.engines.benchmark.worker", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            env=environment,
        )

    def ask(self, do: str, **what: Any) -> dict[str, Any]:
        """Send a request; returns the answer.

        Raises:
            InputError: the request fails, or the process has died
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = ""
        with suppress(OSError):
            self._process.stdin.write(json.dumps({"do": do, **what}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            raise InputError(self._death())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise InputError(f"{self._name}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._stderr.close()

    def _death(self) -> str:
        code = self._process.wait()
        self._stderr.seek(0)
        last = next((line.strip() for line in reversed(self._stderr.readlines()) if line.strip()), "it said nothing")
        how = f"by signal {-code}, perhaps for want of memory" if code < 0 else f"with code {code}"
        return f"the process that measures {self._name} ended {how}: {last}"


class OpenedEngine:
    """An engine opened in a worker process.

    Args:
        process: a process without an open engine
        source: source of the model
        spec: engine and precision
        workload: the predicted images
        device: compute device
    """

    def __init__(
        self, process: BenchmarkClient, source: str, spec: EngineSpec, workload: Workload, device: str
    ) -> None:
        self._process = process
        what = {"source": source, "spec": [spec.engine, spec.precision], "device": device}
        self.seconds: dict[str, float] = process.ask("open", workload=workload.to_dict(), **what)

    def timing(self) -> Timing:
        """Predict once."""
        return Timing.from_dict(self._process.ask("predict"))

    def memory(self, raw: Path | None = None) -> dict[str, int]:
        """Bytes: "before" the model, peaks of "opening" and of "predicting", and the larger of them, "peak".

        Args:
            raw: where to write the last raw output, .npy
        """
        return self._process.ask("report", raw=None if raw is None else str(raw))

    def close(self) -> None:
        """End the process."""
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *what: object) -> None:
        self.close()


def convert(source: str, spec: EngineSpec, workload: Workload, device: str, threads: int | None) -> None:
    """Convert the model for an engine in a separate process, and cache the result.

    Raises:
        InputError: the model cannot be converted
    """
    process = WorkerProcess(f"{spec.name} while converting", threads)
    try:
        what = {"source": source, "spec": [spec.engine, spec.precision], "device": device}
        process.ask("convert", workload=workload.to_dict(), **what)
    finally:
        process.close()
