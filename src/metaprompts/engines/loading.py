"""Load a model that an engine executes."""

from pathlib import Path
from typing import Any, Literal, overload

import torch

from metaprompts.engines.engine_model import EngineModel
from metaprompts.engines.factory import CONVERTING, EXACT, Approximation, open_engine, weights_type
from metaprompts.engines.quantization.calibration import SAMPLES, as_calibration, of_scenes
from metaprompts.errors import InputError
from metaprompts.models import loading
from metaprompts.models.model import MetaPromptModel
from metaprompts.utils.device import pick_device

PLAIN = "plain"
"""The name of the engine that runs the model as in training."""


@overload
def load(
    source: str | Path,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    *,
    engine: Literal["plain"] = "plain",
) -> MetaPromptModel: ...
@overload
def load(
    source: str | Path,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    *,
    engine: str,
    precision: str = "fp32",
    calibration: Any = None,
    calibration_samples: int = SAMPLES,
    **approximation: Any,
) -> MetaPromptModel | EngineModel: ...
def load(
    source: str | Path,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    *,
    engine: str = PLAIN,
    precision: str = "fp32",
    calibration: Any = None,
    calibration_samples: int = SAMPLES,
    **approximation: Any,
) -> MetaPromptModel | EngineModel:
    """Load a model, ready to predict.

    Args:
        source: a folder written by `MetaPromptModel.save`, a hub id, or the name of an embedded model:
            "micro-segmentation", "micro-depth", "micro-pose"
        device: the model's device; by default the GPU if there is one, else the CPU. Converted networks run on the CPU
            unless another device is given
        dtype: precision of a plain model's weights, for example torch.bfloat16, by default float32. Predictions are
            always in single precision
        engine: "plain" for a `MetaPromptModel`, as in training; or the engine that executes the model: "auto", "eager",
            "compile", "openvino" or "onnx", which agree up to rounding
        precision: precision of an engine: "fp32", "bf16", "fp16" (GPU), "w8a16" or "w8a8"
        calibration: images on which the ranges of w8a8's activations are measured: a folder, or a sequence of images as
            for `predict_many`; by default generated scenes
        calibration_samples: maximum number of calibration images
        approximation: approximations that make an engine faster but less accurate: the attributes of `Approximation`

    Raises:
        InputError: the model does not exist or does not load, or the engine is not installed or does not support the
            precision, device or approximation
    """
    less = Approximation(**approximation) if approximation else EXACT
    calibrated = as_calibration(calibration, calibration_samples)
    if calibrated is None and precision == "w8a8":
        calibrated = of_scenes(calibration_samples)
    if engine == PLAIN:
        return with_engine(loading.load(source, device, dtype), engine, precision, less, calibration=calibrated)
    if dtype is not None:
        raise InputError(f"dtype is {dtype}, but engine {engine} takes a precision: give precision, and omit dtype")
    # Networks are converted on the CPU, no matter where they will run.
    place = pick_device("cpu" if engine in CONVERTING else device)
    name = None if device is None else str(device)
    model = loading.load(source, place, weights_type(engine, precision, place, less))
    return with_engine(model, engine, precision, less, device=name, calibration=calibrated)


def with_engine(
    model: MetaPromptModel,
    engine: str,
    precision: str,
    approximation: Approximation = EXACT,
    **options: Any,
) -> MetaPromptModel | EngineModel:
    """Open a model with an engine, or leave it as it is for "plain"; all arguments are those of `open_engine`.

    Raises:
        InputError: the engine does not exist, or does not support the options
    """
    if engine != PLAIN:
        names: Any = {"engine": engine, "precision": precision}
        return open_engine(model, **names, approximation=approximation, **options)
    if precision != "fp32" or approximation != EXACT:
        raise InputError(
            "engine plain computes everything in fp32: choose eager for other precisions and for approximations"
        )
    return model
