"""A process that opens one engine and predicts on request: JSON lines in, JSON lines out.

    {"do": "open", "source": ..., "spec": [engine, precision], "workload": {...}, "device": ...}
    {"do": "predict"}
    {"do": "report", "raw": file for the last raw output}

Opening includes one prediction for warm-up. {"do": "convert", ...} only converts a model and caches it.
"""

import gc
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from metaprompts.engines.benchmark.engine_specs import EngineSpec
from metaprompts.engines.benchmark.environment import MemoryMeter
from metaprompts.engines.benchmark.runner import Subject
from metaprompts.engines.benchmark.workload import Workload
from metaprompts.errors import InputError


class Worker:
    """Executes requests; see above."""

    def __init__(self) -> None:
        self._subject: Subject | None = None
        self._memory = MemoryMeter(torch.device("cpu"))
        self._before = self._opening_peak = 0

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Execute one request; returns the answer.

        Raises:
            InputError: the model does not load, or the engine does not open it
        """
        match request.pop("do"):
            case "convert":
                self._make(**request)
                self._subject = None
                return {}
            case "open":
                return self._open(**request)
            case "predict":
                return self._opened.predict().to_dict()
            case "report":
                return self._report(**request)
            case unknown:
                raise AssertionError(unknown)

    @property
    def _opened(self) -> Subject:
        assert self._subject is not None, "nothing is open"
        return self._subject

    def _open(self, **what: Any) -> dict[str, Any]:
        # Release an earlier engine completely.
        self._subject = None
        gc.collect()
        self._memory = MemoryMeter(torch.device(what["device"]))
        self._memory.restart()
        self._before = self._memory.now()
        started = time.perf_counter()
        self._make(**what)
        opened = time.perf_counter()
        self._opened.predict()
        warm = time.perf_counter()
        self._opening_peak = self._memory.peak()
        gc.collect()
        self._memory.restart()
        return {"opening": opened - started, "first_prediction": warm - opened}

    def _make(self, *, source: str, spec: list[str], workload: dict[str, Any], device: str) -> None:
        self._subject = Subject(source, EngineSpec(*spec), Workload.from_dict(workload), device)

    def _report(self, *, raw: str | None) -> dict[str, Any]:
        if raw is not None:
            self._opened.save_raw(Path(raw))
        predicting = self._memory.peak()
        return {
            "before": self._before,
            "opening": self._opening_peak,
            "predicting": predicting,
            "peak": max(predicting, self._opening_peak),
        }


def serve() -> None:
    """Answer requests until the input ends, for example because the client is gone."""
    # Ctrl-C goes to every process of a terminal: the main process ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Output of libraries must not mix with the answers.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        worker = Worker()
        for line in sys.stdin:
            try:
                found = worker.answer(json.loads(line))
            except InputError as error:
                found = {"error": str(error)}
            answers.write(json.dumps(found) + "\n")
            answers.flush()


if __name__ == "__main__":
    import cv2

    if len(sys.argv) > 1:
        torch.set_num_threads(int(sys.argv[1]))
    cv2.setNumThreads(torch.get_num_threads())
    serve()
