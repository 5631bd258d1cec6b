"""A model that is opened by an engine, and what one prediction of it takes."""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from metaprompts.engines.benchmark.engine_specs import PLAIN, EngineSpec
from metaprompts.engines.benchmark.instrumented import MeteredParts, PlainParts, seconds_of, wait_for_gpu
from metaprompts.engines.benchmark.synthetic_weights import rule_made_tensors
from metaprompts.engines.benchmark.workload import Setting, config_for
from metaprompts.engines.factory import Approximation, open_engine, weights_type
from metaprompts.engines.optimized import Parts, StepConditions, run
from metaprompts.inference.sliding_window import predict_windows, slide_logits
from metaprompts.models.loading import load
from metaprompts.models.model import MetaPromptModel
from metaprompts.modules.meta_prompts import CaptionPrompts
from metaprompts.tasks import Depth
from metaprompts.utils.tensor_files import load_tensors

Tell = Callable[[], StepConditions]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one prediction.

    Attributes:
        pre: images to tensors, and what the steps are told
        encode: the VAE
        steps: each step
        finish: rearrangement and head
        post: raw output to a prediction of the image's size
        total: from beginning to end, with what lies between the parts
    """

    pre: float
    encode: float
    steps: tuple[float, ...]
    finish: float
    post: float
    total: float

    def plain(self) -> dict[str, Any]:
        """As plain values; `from_plain` reads them."""
        return asdict(self)

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> Self:
        """Read what `plain` gave, also after it has been JSON."""
        return cls(**{**values, "steps": tuple(values["steps"])})


class Subject:
    """What is measured.

    Args:
        source: a model folder, a hub id, or the name of an embedded model
        contestant: by what it is opened
        setting: what is predicted
        device: where to

    Attributes:
        raw: the last prediction's raw output, float32

    Raises:
        InputError: the model does not load, or the engine does not open it
    """

    def __init__(self, source: str, contestant: EngineSpec, setting: Setting, device: str) -> None:
        model = subject_model(source, contestant, setting, device)
        self.raw: Tensor | None = None
        self._setting, self._task, self._config, self._device = setting, model.task, model.config, model.device
        context = _context(model, setting)
        self._parts, self._conditions = (
            _plain(model, setting, context)
            if contestant.engine == PLAIN
            else _opened(model, contestant, setting, context)
        )
        del model
        # A converted model needs none of the weights that were mapped to name it.
        gc.collect()

    @torch.inference_mode()
    def predict(self) -> Timing:
        """Predict the setting's images once."""
        images, setting = self._setting.images(), self._setting
        wait_for_gpu()
        started = time.perf_counter()
        views = [next(self._task.views(image, setting.looked_at(), None)) for image in images]
        tensors = torch.stack([view.image for view in views]).to(self._device)
        conditioning = self._conditions()
        wait_for_gpu()
        prepared = time.perf_counter()
        parts = MeteredParts(self._parts, seconds_of, setting.steps)
        raws = self._looked(tensors, lambda window: run(parts, self._task, window, conditioning)).float()
        wait_for_gpu()
        looked = time.perf_counter()
        for image, view, raw in zip(images, views, raws, strict=True):
            self._task.assemble(image, [(view, raw)])
        done = time.perf_counter()
        self.raw = raws.cpu()
        return Timing(
            pre=prepared - started,
            encode=parts.amounts["encode"],
            steps=tuple(parts.of_steps()),
            finish=parts.amounts["finish"],
            post=done - looked,
            total=done - started,
        )

    def save_raw(self, path: Path) -> None:
        """Write the last prediction's raw output as .npy."""
        assert self.raw is not None
        np.save(path, self.raw.numpy())

    def _looked(self, images: Tensor, predict: Callable[[Tensor], Tensor]) -> Tensor:
        windows = self._setting.windows
        if windows == 1:
            return predict(images)
        if isinstance(self._task, Depth):
            return predict_windows(predict, images, windows=windows, flip=False)
        size = (images.shape[-2], images.shape[-1] // windows)
        return slide_logits(predict, images, window=size, stride=size)


def subject_model(source: str, contestant: EngineSpec, setting: Setting, device: str) -> MetaPromptModel:
    """A model with a setting's number of prompts; what there are no weights for is made by the rule."""
    model = load(source, device, weights_type(contestant.engine, contestant.precision, torch.device(device)))
    config = config_for(model.config, setting)
    if config == model.config:
        return model
    changed = MetaPromptModel.from_config(config).to(model.dtype)
    wanted = changed.state_dict()
    own = {
        name: each for name, each in model.state_dict().items() if name in wanted and each.shape == wanted[name].shape
    }
    load_tensors(changed, {**own, **rule_made_tensors(changed, but=own)}, origin=source)
    return changed.eval().to(model.device)


def _plain(model: MetaPromptModel, setting: Setting, context: Tensor | None) -> tuple[Parts, Tell]:
    # The released code encodes in single precision; in double this model agrees with it more closely, but slower.
    model.latent_encoder.precise = False
    parts = PlainParts(model)
    return parts, lambda: parts.conditions(setting.batch, context, setting.steps)


def _opened(
    model: MetaPromptModel, contestant: EngineSpec, setting: Setting, context: Tensor | None
) -> tuple[Parts, Tell]:
    engine: Any = contestant.engine
    precision: Any = contestant.precision
    fast = open_engine(model, engine=engine, precision=precision, approximation=Approximation(steps=setting.steps))
    if not contestant.converts:
        return fast.parts, lambda: fast.conditions(setting.batch, context)
    # What is told may be part of the mapped weights, and would hold all of them.
    conditioning = fast.conditions(setting.batch, context)
    kept = StepConditions(conditioning.shifts.clone(), _cloned(conditioning.keys_values), conditioning.prompts.clone())
    return fast.parts, lambda: kept


def _cloned(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies; what is there several times is copied once."""
    copies = {id(each): each.clone() for each in tensors}
    return [copies[id(each)] for each in tensors]


def _context(model: MetaPromptModel, setting: Setting) -> Tensor | None:
    if not isinstance(model.prompts, CaptionPrompts):
        return None
    shape = (setting.batch, setting.prompts, model.unet.prompt_channels)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(model.device)
