"""Time one prediction of a model by an engine."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaprompts.engines.benchmark.engine_specs import PLAIN, EngineSpec
from metaprompts.engines.benchmark.environment import MemoryMeter
from metaprompts.engines.benchmark.instrumented import MeteredParts, PlainParts, seconds_of, wait_for_gpu
from metaprompts.engines.benchmark.synthetic_weights import rule_made_tensors
from metaprompts.engines.benchmark.workload import Workload, config_for
from metaprompts.engines.factory import Approximation, open_engine, weights_type
from metaprompts.engines.optimized import Parts, StepConditions, run
from metaprompts.engines.quantization.calibration import DEFAULT, CalibrationOptions
from metaprompts.models.loading import load
from metaprompts.models.model import MetaPromptModel
from metaprompts.modules.meta_prompts import CaptionPrompts
from metaprompts.tasks.sliding_window import predict_windows, slide_logits
from metaprompts.utils.tensor_files import load_tensors


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one prediction.

    Attributes:
        pre: images to tensors, and the conditioning of the steps
        encode: the VAE
        steps: each step
        decode: rearrangement and head
        post: raw output to a prediction of the image's size
        total: time from beginning to end, including time between the parts
    """

    pre: float
    encode: float
    steps: tuple[float, ...]
    decode: float
    post: float
    total: float

    @property
    def computing(self) -> float:
        """VAE, steps and head."""
        return self.encode + sum(self.steps) + self.decode


class Subject:
    """A model opened by an engine, whose predictions are timed.

    Args:
        source: a model folder, a hub id, or the name of an embedded model
        spec: engine and precision
        workload: the images to predict
        device: compute device
        calibration: images on which w8a8 is calibrated; by default generated scenes

    Attributes:
        opening_s: seconds that loading and opening took

    Raises:
        InputError: the model does not load, or the engine does not open it
    """

    def __init__(
        self, source: str, spec: EngineSpec, workload: Workload, device: str, calibration: CalibrationOptions = DEFAULT
    ) -> None:
        self._meter = MemoryMeter(torch.device(device))
        self._before, self._opening_peak = self._meter.now(), 0
        started = time.perf_counter()
        model = subject_model(source, spec, workload, device)
        self._workload, self._task, self._device = workload, model.task, model.device
        self._raw: Tensor | None = None
        self._parts, self._conditions = _opened(model, spec, workload, calibration)
        del model
        # A converted model no longer needs the weights, which were mapped only to compute its key.
        gc.collect()
        self.opening_s = time.perf_counter() - started

    def warm_up(self) -> float:
        """Predict for the first time, recording the peak memory of opening separately; returns the seconds."""
        started = time.perf_counter()
        self.predict()
        seconds = time.perf_counter() - started
        self._opening_peak = self._meter.peak()
        gc.collect()
        self._meter.restart()
        return seconds

    @torch.inference_mode()
    def predict(self) -> Timing:
        """Predict the workload's images once."""
        images, workload = self._workload.images(), self._workload
        wait_for_gpu()
        started = time.perf_counter()
        views = [next(self._task.model_inputs(image, workload.full_working_size(), None)) for image in images]
        tensors = torch.stack([view.image for view in views]).to(self._device)
        conditioning = self._conditions()
        wait_for_gpu()
        prepared = time.perf_counter()
        parts = MeteredParts(self._parts, seconds_of, workload.steps)
        raws = self._forward(tensors, lambda window: run(parts, self._task, window, conditioning)).float()
        wait_for_gpu()
        predicted = time.perf_counter()
        for image, view, raw in zip(images, views, raws, strict=True):
            self._task.assemble(image, [(view, raw)])
        done = time.perf_counter()
        self._raw = raws.cpu()
        return Timing(
            pre=prepared - started,
            encode=parts.amounts["encode"],
            steps=tuple(parts.of_steps()),
            decode=parts.amounts["decode"],
            post=done - predicted,
            total=done - started,
        )

    def memory(self) -> dict[str, int]:
        """Bytes, see `EngineProcess.memory`."""
        opening, predicting = self._opening_peak, self._meter.peak()
        peak = max(opening, predicting)
        return {"before": self._before, "opening": opening, "predicting": predicting, "peak": peak}

    def raw(self) -> NDArray[np.float32]:
        """The last prediction's raw output."""
        assert self._raw is not None
        return self._raw.numpy()

    def _forward(self, images: Tensor, predict: Callable[[Tensor], Tensor]) -> Tensor:
        windows = self._workload.windows
        if windows == 1:
            return predict(images)
        if hasattr(self._task.protocol, "num_windows"):
            return predict_windows(predict, images, windows=windows, flip=False)
        size = (images.shape[-2], images.shape[-1] // windows)
        return slide_logits(predict, images, window=size, stride=size)


def subject_model(source: str, spec: EngineSpec, workload: Workload, device: str) -> MetaPromptModel:
    """A model with a workload's number of prompts; missing weights are synthetic."""
    model = load(source, device, weights_type(spec.engine, spec.precision, torch.device(device)))
    config = config_for(model.config, workload)
    if config == model.config:
        return model
    changed = MetaPromptModel.from_config(config).to(model.dtype)
    shapes = {name: each.shape for name, each in changed.state_dict().items()}
    own = {name: each for name, each in model.state_dict().items() if shapes.get(name) == each.shape}
    load_tensors(changed, {**own, **rule_made_tensors(changed, but=own)}, origin=source)
    return changed.eval().to(model.device)


def _opened(
    model: MetaPromptModel, spec: EngineSpec, workload: Workload, calibration: CalibrationOptions
) -> tuple[Parts, Callable[[], StepConditions]]:
    """The three parts as the engine executes them, and the conditioning of the steps."""
    context = None
    if isinstance(model.prompts, CaptionPrompts):
        shape = (workload.batch, workload.prompts, model.unet.prompt_channels)
        context = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(model.device)
    if spec.engine == PLAIN:
        # The released code encodes in single precision; double precision agrees with it more closely, but is slower.
        model.latent_encoder.precise = False
        plain = PlainParts(model, workload.steps)
        return plain, partial(plain.conditions, workload.batch, context)
    engine: Any = spec.engine
    precision: Any = spec.precision
    fast = open_engine(
        model,
        engine=engine,
        precision=precision,
        approximation=Approximation(steps=workload.steps),
        calibration=calibration.calibration(spec.precision) if spec.precision == "w8a8" else None,
    )
    if not spec.converts:
        return fast.parts, partial(fast.conditions, workload.batch, context)
    # The conditioning may be views of the memory-mapped weights, and would keep all of them alive.
    views = fast.conditions(workload.batch, context)
    kept = StepConditions(views.shifts.clone(), [each.clone() for each in views.keys_values], [views.prompts.clone()])
    return fast.parts, lambda: kept
