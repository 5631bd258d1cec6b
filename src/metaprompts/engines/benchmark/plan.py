"""What a benchmark measures: the engines, the model and its workload, and how."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import cv2
import numpy as np
import torch

from metaprompts.engines.benchmark.synthetic_weights import full_width_config, rule_made_folder
from metaprompts.engines.factory import CONVERTING, PRECISIONS, check_engine, installed
from metaprompts.engines.loading import PLAIN
from metaprompts.engines.quantization.calibration import DEFAULT, CalibrationOptions
from metaprompts.errors import InputError
from metaprompts.models.config import ModelConfig
from metaprompts.models.loading import load
from metaprompts.tasks import TASKS, Task
from metaprompts.tasks.preprocess import ModelInput
from metaprompts.visualize.text import ImageArray

BLOCK = 64
"""The backbone sees multiples of this; depth models then add a margin: 480 becomes 448 and then 512."""
_CROP_MULTIPLE = 8
_COARSE = 16
_QUICK_SIZE = (64, 64)


@dataclass(frozen=True)
class EngineSpec:
    """An engine and its precision."""

    engine: str
    precision: str

    @property
    def name(self) -> str:
        """The engine's spelling on the command line."""
        return f"{self.engine}:{self.precision}"

    @property
    def computes(self) -> str:
        """The precision in which the engine multiplies: "fp32", "bf16", "fp16" or "int8"."""
        return {"w8a16": "fp32", "w8a8": "int8"}.get(self.precision, self.precision)


def parse_specs(names: Sequence[str], device: torch.device, option: str = "--engine") -> list[EngineSpec]:
    """Parse names of the form ENGINE or ENGINE:PRECISION, and drop duplicates.

    Without names, returns all installed engines that need no compiling before each run, and OpenVINO in bf16.

    Raises:
        InputError: an engine is unknown, not installed, or does not support the precision or device
    """
    if not names:
        names = [PLAIN, "eager"]
        if device.type == "cpu":
            names += [name for name in (*CONVERTING, "openvino:bf16") if installed(name.partition(":")[0])]
    return list(dict.fromkeys(_parse(name, device, option) for name in names))


def _parse(name: str, device: torch.device, option: str) -> EngineSpec:
    engine, _, precision = name.partition(":")
    spec = EngineSpec(engine, precision or "fp32")
    if engine in PRECISIONS:
        check_engine(engine, spec.precision, device)  # type: ignore[arg-type]
    elif engine != PLAIN:
        known = ", ".join([PLAIN, *PRECISIONS])
        raise InputError(f"{option} has {name!r}; expected {known}, or one with a precision such as eager:bf16")
    elif spec.precision != "fp32":
        raise InputError(f"engine {PLAIN} supports fp32, not {precision}: choose fp32 or another engine")
    return spec


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Images to predict, and the size of the model.

    Attributes:
        size: (height, width) of an image, or of one of its windows if there are several
        working_size: (height, width) to whose area images are resized, as in config.json; None to keep their own size
        batch: batch size, B
        steps: number of steps, K
        prompts: number of prompts, N
        windows: square windows along an image, predicted one after the other
    """

    size: tuple[int, int]
    working_size: tuple[int, int] | None
    batch: int
    steps: int
    prompts: int
    windows: int = 1

    def at(self, side: int) -> Self:
        """The same workload with square images of a different size."""
        size = (side, side)
        return replace(self, size=size, working_size=None if self.working_size is None else _in_blocks(size))

    def images(self) -> list[ImageArray]:
        """B images (H, W, 3), smooth and all different, each wide enough for all windows side by side."""
        size, shape = (self.size[1] * self.windows, self.size[0]), (_COARSE, _COARSE, 3)
        seeds = map(np.random.default_rng, range(self.batch))
        return [cv2.resize(rng.integers(0, 256, shape, np.uint8), size, None, 0, 0, cv2.INTER_CUBIC) for rng in seeds]

    def views(self, images: Sequence[ImageArray], task: Task) -> list[ModelInput]:
        """The task's view of each whole image, with all of its windows."""
        size = None if self.working_size is None else (self.working_size[0], self.working_size[1] * self.windows)
        return [next(task.model_inputs(image, size, None)) for image in images]

    def adapted(self, config: ModelConfig) -> ModelConfig:
        """A model's config with the prompts, and for pose the crops, of this workload."""
        prompts, task = replace(config.prompts, count=self.prompts), config.task.with_input_size(self.size)
        return replace(config, prompts=prompts, task=task)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure, and how.

    Attributes:
        subject: description of the model
        source: a model folder, a hub id, or the name of an embedded model
        curve: the engine of the cost curve; None to measure no curve
        rounds: predictions per engine
        threads: number of compute threads; None for PyTorch's default
        together: whether all engines stay open; None to decide by available memory
        quick: whether this is a smoke test, with a small measurement of the peak speed and short axes of the cost curve
        calibration: images on which w8a8 is calibrated
    """

    subject: str
    source: str
    config: ModelConfig
    workload: Workload
    device: torch.device
    engines: Sequence[EngineSpec]
    curve: EngineSpec | None = None
    rounds: int = 3
    threads: int | None = None
    together: bool | None = None
    quick: bool = False
    calibration: CalibrationOptions = DEFAULT


def chosen_model(
    model: str | None, task: str, *, quick: bool, on_stage: Callable[[str], None]
) -> tuple[str, str, ModelConfig]:
    """The subject, source and config of a `Plan`; by default those of a task's published model, or its miniature.

    Raises:
        InputError: the model does not load, or a model is given in addition to ``quick``
    """
    if quick and model is not None:
        raise InputError("--quick measures an embedded miniature: omit MODEL or --quick")
    if quick:
        config = load(f"micro-{task}", "cpu").config
        return f"embedded model micro-{task}", f"micro-{task}", replace(config, working_size=_QUICK_SIZE)
    if model is not None:
        return f"model {model}", model, load(model, "cpu").config
    config = full_width_config(task)
    on_stage("making weights, unless cached")
    subject = f"the model of recipe {TASKS[task].published} with synthetic weights"
    return subject, str(rule_made_folder(config)), config


def workload_for(config: ModelConfig, size: tuple[int, int] | None, batch: int) -> Workload:
    """The default workload of a model, at its training size or another one.

    Raises:
        InputError: the image is too small, or not a multiple of 8 for pose
    """
    crop, working_size = config.task.input_size, config.working_size
    shown = size or crop or working_size or config.task.published_size
    if min(shown) < BLOCK:
        raise InputError(f"--size is {shown[0]} {shown[1]}; expected at least {BLOCK} each")
    if crop is not None and any(side % _CROP_MULTIPLE for side in shown):
        raise InputError(f"--size is {shown[0]} {shown[1]}; expected multiples of 8: pose predicts crops of this size")
    if size is not None or working_size is None:
        working_size = _in_blocks(shown)
    working_size, steps, prompts = None if crop else working_size, config.refinement.steps, config.prompts.count
    return Workload(size=shown, working_size=working_size, batch=batch, steps=steps, prompts=prompts)


def _in_blocks(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] // BLOCK * BLOCK, size[1] // BLOCK * BLOCK
