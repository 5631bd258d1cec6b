"""The OpenVINO engine, the fastest on a CPU."""

import io
import logging
import sys
from collections.abc import Collection, Sequence
from contextlib import redirect_stdout
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from metaprompts.engines.converted import ConvertedParts, examples
from metaprompts.engines.optimized import PARTS, OptimizedModel
from metaprompts.engines.quantization.simulation import group_of
from metaprompts.errors import InputError
from metaprompts.utils.progress import ProgressBar
from metaprompts.utils.system import cpu_flags, releasing_files
from metaprompts.utils.telemetry import switch_off_telemetry

if TYPE_CHECKING:
    import openvino

# Compiled networks of different sizes share their weights, but not their buffers.
_KEPT_SIZES = 4
_HINTS = {"fp32": "f32", "bf16": "bf16", "w8a16": "f32"}
_NATIVE_BF16 = frozenset(["avx512_bf16", "amx_bf16"])
# Not ConvolutionBackpropData: OpenVINO computes most transposed convolutions in 16 bits all the same.
_QUANTIZED_TYPES = frozenset(["Convolution", "GroupConvolution", "MatMul"])
_NOT_OPERATIONS = frozenset(["Constant", "Parameter", "Result"])
_SCOPE = "__module."
# SmoothQuant takes one pass over the samples; ranges and bias correction share another.
_PASSES = 2


def build_openvino(prepared: OptimizedModel, folder: Path, precision: str) -> None:
    """Write each part as an OpenVINO network that accepts any size.

    Args:
        prepared: the prepared model, in float32
        folder: output folder for encode.xml, encode.bin, ...
        precision: "fp32" stores 32-bit weights, "bf16" 16-bit, "w8a16" 8-bit
    """
    for part, example in examples(prepared).items():
        network = converted_by_openvino(getattr(prepared, part), example.arguments)
        narrow = _with_small_weights(network) if precision == "w8a16" else network
        save_network(narrow, folder / f"{part}.xml", compress=precision == "bf16")


def read_network(folder: Path, part: str) -> "openvino.Model":
    """A network that `build_openvino` has written; its weights stay in the file."""
    import openvino

    return openvino.Core().read_model(folder / f"{part}.xml")


def save_network(network: "openvino.Model", path: Path, *, compress: bool = False) -> None:
    """Write a network; with ``compress``, 32-bit weights are stored in 16 bits."""
    import openvino

    openvino.save_model(network, path, compress_to_fp16=compress)


def compute_hint(precision: str) -> str:
    """OpenVINO's name for the compute precision; for w8a8, that of everything that is not quantized."""
    if precision == "w8a8":
        return "bf16" if _NATIVE_BF16 & cpu_flags() else "f32"
    return _HINTS[precision]


def _imported_nncf(level: int) -> Any:
    """Import NNCF, and set the level of its log."""
    switch_off_telemetry()
    import nncf

    # Not nncf.set_log_level: it also sets the level of handlers that others have added.
    logging.getLogger("nncf").setLevel(level)
    return nncf


def _with_small_weights(network: "openvino.Model") -> "openvino.Model":
    nncf = _imported_nncf(logging.WARNING)
    # Hides a progress bar that would mix with results.
    with redirect_stdout(sys.stderr):
        return nncf.compress_weights(network, mode=nncf.CompressWeightsMode.INT8_SYM)


def weight_bits() -> int:
    """Bits of the weights: 7 on processors that add pairs of products in 16 bits, which would overflow with 8."""
    return 8 if {"avx512_vnni", "avx_vnni", "amx_int8"} & cpu_flags() else 7


def quantized(
    network: "openvino.Model", inputs: Sequence[Sequence[Any]], unquantized: Collection[str], title: str
) -> "openvino.Model":
    """A network whose convolutions and products with weights are computed in 8 bits.

    Weights are symmetric, with a scale for each output channel; activations are asymmetric, with a range for each
    tensor. SmoothQuant moves outliers of the inputs of linear layers into their weights, and biases are corrected for
    the mean error. Everything else is not quantized: additions (including the time shifts), norms, products
    between activations.

    Args:
        network: the network of a part, with 32- or 16-bit weights; not changed
        inputs: the inputs of each sample
        unquantized: groups of layers to leave out, see `group_of`
        title: title of the progress bar
    """
    nncf = _imported_nncf(logging.ERROR)
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    operations = network.get_ops()
    layers = [each.get_friendly_name() for each in operations if each.get_type_name() in _QUANTIZED_TYPES]
    # A name is the path of the module that the node was traced in, and the node's own.
    left = [name for name in layers if group_of(name.partition("/")[0].removeprefix(_SCOPE)) in unquantized]
    if len(left) == len(layers):
        return network
    others = {each.get_type_name() for each in operations} - _QUANTIZED_TYPES - _NOT_OPERATIONS

    def sample(tensors: Sequence[Any]) -> list[Any]:
        # Our progress bar replaces that of NNCF.
        bar.advance()
        return [tensor.detach().float().contiguous().numpy() for tensor in tensors]

    with ProgressBar(title, _PASSES * len(inputs)) as bar, redirect_stdout(io.StringIO()):
        return nncf.quantize(
            network,
            nncf.Dataset(inputs, sample),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(inputs),
            fast_bias_correction=True,
            ignored_scope=nncf.IgnoredScope(names=left, types=sorted(others), validate=False),
            advanced_parameters=AdvancedQuantizationParameters(
                # By default, ranges are means over samples, which clip the refinement steps with the largest values.
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
                overflow_fix=OverflowFix.DISABLE if weight_bits() == 8 else OverflowFix.ENABLE,
            ),
        )


@torch.no_grad()
def converted_by_openvino(module: nn.Module, example: Any) -> "openvino.Model":
    """A module converted by OpenVINO.

    OpenVINO raises the level of the root logger and, if the conversion fails, does not restore it.

    Args:
        module: the module to convert
        example: example arguments
    """
    switch_off_telemetry()
    import openvino

    root = logging.getLogger()
    level, filters, handlers = root.level, list(root.filters), list(root.handlers)
    try:
        return openvino.convert_model(module, example_input=example)
    finally:
        root.setLevel(level)
        root.filters, root.handlers = filters, handlers


def openvino_device(name: str | None, precision: str) -> str:
    """OpenVINO's own name for a device.

    Args:
        name: "cpu", "gpu", "gpu.1", ... in any case; None for the CPU
        precision: compute precision

    Raises:
        InputError: the device does not exist, or does not support the precision
    """
    switch_off_telemetry()
    import openvino

    device = (name or "cpu").upper()
    found = openvino.Core().available_devices
    # Several devices of a kind are listed with numbers; without a number, the first one is used.
    if device not in {*found, *(each.partition(".")[0] for each in found)}:
        raise InputError(f"OpenVINO has no device {name!r} here; expected one of {', '.join(found).lower()}")
    if precision in ("bf16", "w8a8") and device != "CPU":
        raise InputError(
            f"OpenVINO supports {precision} on the CPU, not on {name}: choose fp32 or w8a16, or --device cpu"
        )
    return device


class OpenVinoParts(ConvertedParts):
    """Networks written by `build_openvino`; each is compiled for every new size.

    Args:
        folder: folder of the networks
        precision: compute precision
        multiple: image sides must be multiples of this
        device: see `openvino_device`
    """

    def __init__(self, folder: Path, precision: str, multiple: int, device: str = "CPU") -> None:
        switch_off_telemetry()
        import openvino

        super().__init__(multiple)
        settings = {"INFERENCE_PRECISION_HINT": compute_hint(precision), "PERFORMANCE_HINT": "LATENCY"}
        if device == "CPU":
            settings["INFERENCE_NUM_THREADS"] = str(torch.get_num_threads())
        compiled = partial(_compiled, openvino.Core(), folder, device, settings)
        self._request = lru_cache(maxsize=_KEPT_SIZES * len(PARTS))(compiled)

    def execute(self, part: str, arrays: Sequence[NDArray[np.float32]]) -> Sequence[NDArray[np.float32]]:
        """All outputs of a part."""
        request = self._request(part, tuple(array.shape for array in arrays))
        found = request.infer(arrays, share_inputs=True)
        return [found[index] for index in range(len(found))]


# A compiled network has its own reordered weights and no longer needs the file.
@releasing_files()
def _compiled(
    core: "openvino.Core", folder: Path, device: str, settings: dict[str, str], part: str, shapes: tuple[Any, ...]
) -> "openvino.InferRequest":
    network = core.read_model(folder / f"{part}.xml")
    network.reshape(dict(zip(network.inputs, map(list, shapes), strict=True)))
    return core.compile_model(network, device, settings).create_infer_request()
