"""Choose and open an engine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

import torch

from metaprompts import __version__
from metaprompts.engines.adaptive_steps import tolerance_of, warn_of_untrained_steps
from metaprompts.engines.artifact_cache import artifact, has_any, is_kept
from metaprompts.engines.by_torch import CompiledParts, EagerParts
from metaprompts.engines.converted import multiple_of
from metaprompts.engines.engine_model import EngineModel
from metaprompts.engines.openvino import weight_bits
from metaprompts.engines.optimized import OptimizedModel, Parts, with_encode
from metaprompts.engines.quantization.calibration import Calibration, of_scenes
from metaprompts.errors import InputError
from metaprompts.models.model import MetaPromptModel
from metaprompts.modules.backbone.distilled_encoder import SmallEncoder
from metaprompts.modules.backbone.encoder_cache import EncoderCache
from metaprompts.utils.fingerprint import tensors_fingerprint
from metaprompts.utils.system import releasing_files, versions
from metaprompts.utils.torch_modules import sharing_weights
from metaprompts.utils.wording import counted, enumerated

EngineName = Literal["eager", "compile", "openvino", "onnx"]
Precision = Literal["fp32", "bf16", "fp16", "w8a16", "w8a8"]

PRECISIONS: Mapping[EngineName, tuple[Precision, ...]] = {
    "eager": ("fp32", "bf16", "fp16"),
    "compile": ("fp32", "bf16", "fp16"),
    "openvino": ("fp32", "bf16", "w8a16", "w8a8"),
    "onnx": ("fp32",),
}
CONVERTING = ("openvino", "onnx")
"""Engines that run a converted network, which is cached on disk."""

NEEDS: Mapping[str, tuple[str, ...]] = {
    "openvino": ("openvino",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "nncf": ("nncf",),
}
"""The packages that engines, exports to their formats, and 8-bit precisions require."""
_EXTRAS = {"nncf": "int8"}
_EIGHT_BITS = ("w8a16", "w8a8")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Converting a model takes about as long as predicting this many images without it.
_WORTH_CONVERTING = 20
# Compiling on a GPU takes a minute or two.
_WORTH_COMPILING = 200


@dataclass(frozen=True, kw_only=True)
class Approximation:
    """Approximations for speed, all off by default. docs/performance.md measures what each costs in quality.

    Attributes:
        steps: refinement steps, if fewer than K; "auto" stops when two successive steps agree, image by image, for
            models with a calibrated tolerance (``metaprompts calibrate --steps``)
        merged_tokens: fraction of the finest level's tokens to merge in self-attention, 0 to 0.75
        encoder: folder of an encoder distilled from the model's VAE by `metaprompts distill-encoder`
    """

    steps: int | Literal["auto"] | None = None
    merged_tokens: float = 0.0
    encoder: Path | None = None

    def to_dict(self) -> dict[str, object]:
        """The values on which converted networks depend; these do not include the number of steps."""
        encoder = None if self.encoder is None else SmallEncoder.read(self.encoder)
        return {
            "merged_tokens": self.merged_tokens,
            "encoder": None if encoder is None else tensors_fingerprint(sorted(encoder.state_dict().items())),
        }


EXACT = Approximation()


@releasing_files()
def open_engine(
    model: MetaPromptModel,
    *,
    engine: EngineName | Literal["auto"] = "auto",
    precision: Precision = "fp32",
    approximation: Approximation = EXACT,
    images: int | None = None,
    bounded: bool = False,
    cache: Path | None = None,
    device: str | None = None,
    calibration: Calibration | None = None,
) -> EngineModel:
    """Open a model with an engine.

    Args:
        model: the model, in any precision. Its weights may be reordered in memory, which does not change their values.
            The eager engine uses the strips of its encoder
        engine: the engine; "auto" picks an installed engine that saves more time than it takes to prepare
        precision: "fp32"; "bf16", or "fp16" on a GPU: 16-bit matrix products; "w8a16": 8-bit weights, 32-bit
            arithmetic; "w8a8": 8-bit weights and activations
        approximation: approximations to use
        images: approximate number of images to predict; None for many
        bounded: whether memory is limited or windows are used; on a CPU "auto" then picks an engine with strips and
            windows of any size
        cache: folder for converted models; by default see `cache_folder`
        device: device of a converted network: "cpu", the default; OpenVINO's "gpu", "gpu.1"; ONNX Runtime's "cuda",
            "cuda:1". The model itself is then on the CPU; other engines run on the model's device
        calibration: images on which the ranges of w8a8's activations are measured; by default generated scenes

    Raises:
        InputError: the engine is not installed, or does not support the precision or device
    """
    if engine not in ("auto", *PRECISIONS):
        raise InputError(f"engine is {engine!r}; expected auto, {', '.join(PRECISIONS)}")
    if precision not in get_args(Precision):
        raise InputError(f"precision is {precision!r}; expected one of {', '.join(get_args(Precision))}")
    if calibration is not None and precision != "w8a8":
        raise InputError(f"calibration applies only to precision w8a8, not {precision}: omit it, or choose w8a8")
    tolerance = tolerance_of(model.config) if approximation.steps == "auto" else None
    warn_of_untrained_steps(model.config, approximation.steps)
    order = _Order(model.eval(), precision, approximation, cache, device, calibration)
    chosen, why = _choose(order, images, bounded=bounded) if engine == "auto" else (engine, "asked for")
    check_engine(chosen, precision, model.device)
    prepared = order.prepared(chosen)
    parts, about = _PARTS[chosen](order, prepared)
    if model.latent_encoder.cache is not None:
        # Other models' projections of a second encoder's maps differ, so they cannot share these outputs.
        kept = model.latent_encoder.cache if model.second_encoder is None else EncoderCache()
        parts = with_encode(parts, partial(kept.outputs, encode=parts.encode))
    reads = model.config.prompts.kind == "caption"
    return EngineModel(
        model.config,
        parts,
        prepared.conditions,
        engine=chosen,
        precision=precision,
        device=model.device,
        why="; ".join(filter(None, [why, about])),
        caption_encoder=model.encode_captions if reads else None,
        tolerance=tolerance,
    )


def quantized_networks(model: MetaPromptModel, steps: int | None, calibration: Calibration | None) -> Path:
    """A cached folder of the OpenVINO networks of a model's parts in w8a8, the same as `open_engine` executes.

    Arguments and errors are those of `open_engine`.
    """
    order = _Order(model.eval(), "w8a8", Approximation(steps=steps), None, None, calibration)
    check_engine("openvino", "w8a8", model.device)
    return _openvino_networks(order, order.prepared("openvino"))


def weights_type(
    engine: str, precision: str, device: torch.device, approximation: Approximation = EXACT
) -> torch.dtype:
    """The precision in which a model's weights should be loaded for an engine.

    The precision is the engine's if PyTorch computes in it. Converted networks are built from, and keyed by, the exact
    weights, and a distilled encoder identifies its VAE by them.

    Args:
        engine: as for `open_engine`
        precision: as for `open_engine`
        device: the model's future device
        approximation: approximations that will be used
    """
    by_torch = engine in ("eager", "compile") or (
        engine == "auto" and not (device.type == "cpu" and installed("openvino"))
    )
    narrow = by_torch and precision in ("bf16", "fp16") and approximation.encoder is None
    return _DTYPES[precision] if narrow else torch.float32


def installed(engine: str) -> bool:
    """Whether all packages that an engine, or "nncf" for 8-bit precisions, requires are installed."""
    return all(find_spec(name) for name in NEEDS.get(engine, ()))


def check_engine(engine: EngineName, precision: Precision, device: torch.device) -> None:
    """Check that an engine can compute in a precision on a device, and is installed.

    Raises:
        InputError: the engine does not support the precision or the device, or is not installed
    """
    if precision == "fp16" and device.type == "cpu":
        raise InputError(f"precision fp16 requires a GPU, but the model is on {device}: choose fp32 or bf16")
    if precision not in PRECISIONS[engine]:
        able = [name for name, offered in PRECISIONS.items() if precision in offered]
        raise InputError(
            f"engine {engine} supports {enumerated(PRECISIONS[engine])}, not {precision}"
            + (f": choose {' or '.join(able)} for that" if able else ": choose one of these")
        )
    for needed in (engine, "nncf") if precision in _EIGHT_BITS else (engine,):
        if not installed(needed):
            raise InputError(f"{needed} is not installed: pip install 'metaprompts[{_EXTRAS.get(needed, needed)}]'")
    if engine in CONVERTING and device.type != "cpu":
        raise InputError(f"engine {engine} runs on the CPU here, but the model is on {device}: pass --device cpu")


@dataclass(frozen=True, eq=False)
class _Order:
    """The inputs from which an engine's parts are built."""

    model: MetaPromptModel
    precision: Precision
    approximation: Approximation
    cache: Path | None
    device: str | None
    given_calibration: Calibration | None

    @cached_property
    def calibration(self) -> Calibration:
        return self.given_calibration or of_scenes()

    def what(self, engine: str) -> dict[str, object]:
        """Everything on which the converted model depends."""
        packages = ("torch", *NEEDS[engine], *(NEEDS["nncf"] if self.precision in _EIGHT_BITS else ()))
        quantization: dict[str, object] = {}
        if self.precision == "w8a8":
            from metaprompts.engines.quantization.build import BOUND, MOST_UNQUANTIZED

            steps = self.approximation.steps
            quantization = {
                "calibration": self.calibration.to_dict(),
                "weight_bits": weight_bits(),
                "bound": BOUND,
                "most_unquantized": MOST_UNQUANTIZED,
                # The error is measured after this number of steps.
                "steps": steps if isinstance(steps, int) else self.model.config.refinement.steps,
            }
        return {
            "weights": self._weights,
            "config": self.model.config.to_dict(),
            "precision": self.precision,
            "approximation": self.approximation.to_dict(),
            **quantization,
            "versions": {"metaprompts": __version__, **versions(*packages)},
        }

    def prepared(self, engine: str) -> OptimizedModel:
        """The model prepared for an engine; a model in lower precision than the engine needs is copied to float32."""
        model, less = self.model, self.approximation
        if model.dtype != torch.float32 and weights_type(engine, self.precision, model.device, less) == torch.float32:
            model = sharing_weights(model, torch.float32)
        return OptimizedModel(
            model,
            None if less.steps == "auto" else less.steps,
            merged_tokens=less.merged_tokens,
            encoder=None if less.encoder is None else SmallEncoder.read(less.encoder),
        )

    @cached_property
    def _weights(self) -> str:
        # Reads all weights, which may be gigabytes.
        return tensors_fingerprint(sorted(self.model.state_dict().items()))


def _choose(order: _Order, images: int | None, *, bounded: bool) -> tuple[EngineName, str]:
    """An engine, and one line on why it is chosen."""
    device, count = order.model.device, "many images" if images is None else counted(images, "image")
    enough = images is None or images >= (_WORTH_CONVERTING if device.type == "cpu" else _WORTH_COMPILING)
    if device.type != "cpu":
        if order.precision in _EIGHT_BITS:
            raise InputError(f"{order.precision} requires the CPU: pass --device cpu, or another precision")
        if device.type != "cuda" or not find_spec("triton"):
            return "eager", f"on {device.type}, compiling requires CUDA and Triton"
        if enough:
            return "compile", f"{count} on a GPU, worth compiling for"
        return "eager", f"on {device.type}, too few ({count}) to make compiling worthwhile"
    second = order.model.second_encoder
    if second is not None and not second.is_convertible:
        return "eager", "its second encoder cannot be converted"
    if not installed("openvino"):
        return "eager", "OpenVINO is not installed: pip install 'metaprompts[openvino]' for faster prediction on a CPU"
    if bounded and order.precision not in _EIGHT_BITS:
        return "eager", "the only engine that supports strips and windows of any size"
    if order.precision in _EIGHT_BITS or enough:
        return "openvino", "installed, and the fastest on a CPU"
    if has_any(order.cache) and is_kept(order.what("openvino"), order.cache):
        return "openvino", "installed, and the model is converted already"
    return "eager", f"converting to OpenVINO takes longer than predicting {count}; force it with --engine openvino"


_Opened = tuple[Parts, str]
"""Parts, and one line on how they were made, if it should be logged."""


def _by_torch(kind: type[EagerParts], order: _Order, prepared: OptimizedModel) -> _Opened:
    return kind(prepared, _DTYPES[order.precision], order.model.latent_encoder), ""


def _openvino(order: _Order, prepared: OptimizedModel) -> _Opened:
    from metaprompts.engines.openvino import OpenVinoParts, openvino_device
    from metaprompts.engines.quantization.build import summary

    device = openvino_device(order.device, order.precision)
    _check_convertible(order.model, "OpenVINO")
    folder = _openvino_networks(order, prepared)
    about = summary(folder) if order.precision == "w8a8" else ""
    return OpenVinoParts(folder, order.precision, multiple_of(prepared), device), about


def _openvino_networks(order: _Order, prepared: OptimizedModel) -> Path:
    from metaprompts.engines.openvino import build_openvino
    from metaprompts.engines.quantization.build import build_quantized

    def build(folder: Path) -> None:
        if order.precision == "w8a8":
            build_quantized(prepared, order.model, order.calibration, folder)
        else:
            build_openvino(prepared, folder, order.precision)

    return artifact(order.what("openvino"), build, order.cache)


def _check_convertible(model: MetaPromptModel, runtime: str) -> None:
    if model.second_encoder is not None:
        model.second_encoder.check_convertible(runtime)


def _onnx(order: _Order, prepared: OptimizedModel) -> _Opened:
    from metaprompts.engines.onnxruntime import OnnxParts, build_onnx, onnx_provider

    provider = onnx_provider(order.device)
    _check_convertible(order.model, "ONNX Runtime")
    folder = artifact(order.what("onnx"), lambda scratch: build_onnx(prepared, scratch), order.cache)
    return OnnxParts(folder, multiple_of(prepared), provider), ""


_PARTS: Mapping[EngineName, Callable[[_Order, OptimizedModel], _Opened]] = {
    "eager": partial(_by_torch, EagerParts),
    "compile": partial(_by_torch, CompiledParts),
    "openvino": _openvino,
    "onnx": _onnx,
}
