"""Open engines, each in its own process so that the memory of each can be measured, and time their predictions."""

import gc
import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import asdict
from functools import cached_property, partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from metaprompts.engines.benchmark.machine import peak_memory, restart_peak, used_memory
from metaprompts.engines.benchmark.parts import PlainParts, Timing, caption_context, measured, now, seconds_of
from metaprompts.engines.benchmark.plan import EngineSpec, Plan
from metaprompts.engines.benchmark.synthetic_weights import rule_made_tensors
from metaprompts.engines.factory import CONVERTING, Approximation, open_engine, weights_type
from metaprompts.engines.loading import PLAIN
from metaprompts.engines.optimized import Parts, StepConditions
from metaprompts.errors import InputError
from metaprompts.models.loading import load
from metaprompts.models.model import MetaPromptModel
from metaprompts.utils.multiprocessing import prepare_worker
from metaprompts.utils.tensor_files import load_tensors

T = TypeVar("T")

_GRACE_S = 10


class Subject:
    """A plan's model opened by an engine, and warmed up by a first prediction.

    Attributes:
        opening_s: seconds of the "opening", with loading, and of the "first_prediction"

    Raises:
        InputError: the model does not load, or the engine does not open it
    """

    def __init__(self, plan: Plan, spec: EngineSpec) -> None:
        self._workload, self._device = plan.workload, plan.device
        self._before = used_memory(plan.device)
        started = now()
        model = subject_model(plan, spec)
        self._task = model.task
        self._parts, self._conditions = _opened(model, plan, spec)
        del model
        # A converted model no longer needs the weights, which were mapped only to compute its key.
        gc.collect()
        self.opening_s = {"opening": now() - started, "first_prediction": seconds_of(self.predict)[1]}
        self._opening_peak = peak_memory(plan.device)
        gc.collect()
        restart_peak(plan.device)

    @torch.inference_mode()
    def predict(self) -> Timing:
        """Predict the workload's images once."""
        images, workload = self._workload.images(), self._workload
        started = now()
        views = workload.views(images, self._task)
        tensors = torch.stack([view.image for view in views]).to(self._device)
        conditioning = self._conditions()
        prepared = now()
        raws, costs = measured(seconds_of, self._parts, self._task, workload, tensors, conditioning)
        raws = raws.float()
        predicted = now()
        for image, view, raw in zip(images, views, raws, strict=True):
            self._task.assemble(image, [(view, raw)])
        done = now()
        self._raw = raws.cpu()
        pre, post = prepared - started, done - predicted
        return Timing(**costs, pre=pre, post=post, total=done - started)

    def memory(self) -> dict[str, int]:
        """Bytes: "before" loading, peaks of "opening" and of "predicting", and "peak", the larger of these two."""
        peaks = {"opening": self._opening_peak, "predicting": peak_memory(self._device)}
        return {"before": self._before, **peaks, "peak": max(peaks.values())}

    def raw(self) -> NDArray[np.float32]:
        """The last prediction's raw output."""
        return self._raw.numpy()


def subject_model(plan: Plan, spec: EngineSpec) -> MetaPromptModel:
    """A plan's model with its workload's number of prompts; missing weights are synthetic."""
    model = load(plan.source, plan.device, weights_type(spec.engine, spec.precision, plan.device))
    config = plan.workload.adapted(model.config)
    if config == model.config:
        return model
    changed = MetaPromptModel.from_config(config).to(model.dtype)
    shapes = {name: each.shape for name, each in changed.state_dict().items()}
    own = {name: each for name, each in model.state_dict().items() if shapes.get(name) == each.shape}
    load_tensors(changed, {**own, **rule_made_tensors(changed, but=own)}, origin=plan.source)
    return changed.eval().to(model.device)


def _opened(model: MetaPromptModel, plan: Plan, spec: EngineSpec) -> tuple[Parts, Callable[[], StepConditions]]:
    """The three parts as the engine executes them, and the conditioning of the steps."""
    batch, context = plan.workload.batch, caption_context(model, plan.workload)
    if spec.engine == PLAIN:
        # The released code encodes in single precision; double precision agrees with it more closely, but is slower.
        model.latent_encoder.precise = False
        plain = PlainParts(model, plan.workload.steps)
        return plain, partial(plain.conditions, batch, context)
    approximation = Approximation(steps=plan.workload.steps)
    calibration = plan.calibration.calibration(spec.precision) if spec.precision == "w8a8" else None
    fast = open_engine(model, **asdict(spec), approximation=approximation, calibration=calibration)
    if spec.engine not in CONVERTING:
        return fast.parts, partial(fast.conditions, batch, context)
    # The conditioning may be views of the memory-mapped weights, and would keep all of them alive.
    views = fast.conditions(batch, context)
    kept = StepConditions(views.shifts.clone(), [each.clone() for each in views.keys_values], [views.prompts.clone()])
    return fast.parts, lambda: kept


class EngineRun:
    """An engine that is opened in its own process, and its measurements, which outlast the process.

    Attributes:
        timings: one per prediction
        opening_s: see `Subject`
        memory: see `Subject.memory`; the maximum, if the engine was opened several times
        raw: the last prediction's raw output

    Raises:
        InputError: the engine does not open, or the process has died; raised by all methods but `close`
    """

    def __init__(self, plan: Plan, spec: EngineSpec) -> None:
        self.plan, self.spec = plan, spec
        self._process: SpawnProcess | None = None
        self.timings: list[Timing] = []
        self.opening_s: dict[str, float] = {}
        self.memory: dict[str, int] = {}

    def predict(self) -> None:
        """Predict once; opens the engine if it is not open."""
        self.opening_s = self.opening_s or self.ask(attrgetter("opening_s"))
        self.timings.append(self.ask(Subject.predict))

    def finish(self) -> None:
        """Record the memory and the last raw output, and close the engine."""
        found = self.ask(Subject.memory)
        self.memory = {name: max(size, self.memory.get(name, 0)) for name, size in found.items()}
        self.raw = self.ask(Subject.raw)
        self.close()

    def ask(self, method: Callable[[Subject], T]) -> T:
        """Call a method of the engine, for example ``ask(Subject.predict)``; opens it if it is not open."""
        if self._process is None:
            self._process = self._started()
        try:
            self._connection.send(method)
            answer: T | InputError = self._connection.recv()
        except (OSError, EOFError) as error:
            raise InputError(self._death(self._process)) from error
        if isinstance(answer, InputError):
            raise InputError(f"{self.spec.name}: {answer}")
        return answer

    def close(self) -> None:
        """Close the engine if it is open."""
        if self._process is not None:
            self._connection.close()
            self._process.join(_GRACE_S)
            self._process.kill()
            self._process.join()
            self._output.close()
        self._process = None

    def _started(self) -> SpawnProcess:
        self._output = tempfile.NamedTemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        context = get_context("spawn")
        self._connection, other = context.Pipe()
        process = context.Process(target=_serve, args=(other, self._output.name, self.plan, self.spec))
        process.start()
        # The process then holds the only other end, so that its death is noticed.
        other.close()
        return process

    def _death(self, process: SpawnProcess) -> str:
        process.join()
        code = process.exitcode or 0
        last = next((line.strip() for line in reversed(self._output.readlines()) if line.strip()), "no output")
        how = f"on signal {-code}, perhaps out of memory" if code < 0 else f"with code {code}"
        return f"the worker for {self.spec.name} exited {how}: {last}"


class RunHere(EngineRun):
    """An engine that is opened in this process; memory then covers everything that this process has done."""

    @cached_property
    def _subject(self) -> Subject:
        return Subject(self.plan, self.spec)

    def ask(self, method: Callable[[Subject], T]) -> T:
        """Call a method of the engine."""
        return method(self._subject)


def _serve(connection: Connection, output: str, plan: Plan, spec: EngineSpec) -> None:
    """Open an engine, and call its methods until the other end closes; everything printed goes to a file."""
    prepare_worker()
    with Path(output).open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(plan.threads or torch.get_num_threads())
    cv2.setNumThreads(torch.get_num_threads())
    try:
        subject = Subject(plan, spec)
        while True:
            connection.send(connection.recv()(subject))
    except InputError as error:
        connection.send(error)
    except (EOFError, BrokenPipeError):
        return


def convert(plans: Iterable[Plan], spec: EngineSpec, on_stage: Callable[[str], None]) -> None:
    """Convert and cache an engine's models in advance, so that conversion is not measured."""
    by_prompts = {plan.workload.prompts: plan for plan in plans}
    for plan in by_prompts.values() if spec.engine in CONVERTING else ():
        on_stage(f"converting for {spec.name}, unless cached")
        with closing(EngineRun(plan, spec)) as run:
            run.ask(attrgetter("opening_s"))
