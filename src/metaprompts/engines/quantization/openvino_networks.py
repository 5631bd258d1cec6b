"""Quantize OpenVINO networks with NNCF."""

import io
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from metaprompts.engines.quantization.simulation import group_of
from metaprompts.utils.progress import ProgressBar
from metaprompts.utils.system import cpu_flags
from metaprompts.utils.telemetry import switch_off_telemetry

if TYPE_CHECKING:
    import openvino

_QUANTIZED_TYPES = frozenset(["Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul"])
_NOT_OPERATIONS = frozenset(["Constant", "Parameter", "Result"])
_SCOPE = "__module."
# SmoothQuant takes one pass over the samples; ranges and bias correction share another.
_PASSES = 2


def weight_bits() -> int:
    """Bits of the weights: 7 on processors that add pairs of products in 16 bits, which would overflow with 8."""
    return 8 if {"avx512_vnni", "avx_vnni", "amx_int8"} & cpu_flags() else 7


def quantized(
    network: "openvino.Model", inputs: Sequence[Sequence[Any]], unquantized: Collection[str], title: str
) -> "openvino.Model":
    """A network whose convolutions and products with weights are computed in 8 bits.

    Weights are symmetric, with a scale for each output channel; activations are asymmetric, with a range for each
    tensor. SmoothQuant moves outliers of the inputs of linear layers into their weights, and biases are corrected for
    the mean error. Everything else is not quantized: additions (and with them the shifts by time), norms, products
    between activations.

    Args:
        network: the network of a part in float32; not changed
        inputs: the inputs of each sample
        unquantized: groups of layers to leave out, see `group_of`
        title: title of the progress bar
    """
    switch_off_telemetry()
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    # Not nncf.set_log_level: it also sets the level of handlers that others have added.
    logging.getLogger("nncf").setLevel(logging.ERROR)
    operations = network.get_ops()
    layers = [each.get_friendly_name() for each in operations if each.get_type_name() in _QUANTIZED_TYPES]
    left = [name for name in layers if group_of(_module_path(name)) in unquantized]
    if len(left) == len(layers):
        return network
    others = {each.get_type_name() for each in operations} - _QUANTIZED_TYPES - _NOT_OPERATIONS
    with ProgressBar(title, _PASSES * len(inputs)) as bar, redirect_stdout(io.StringIO()):
        return nncf.quantize(
            network,
            nncf.Dataset(_Samples(inputs, bar.advance)),
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


def _module_path(name: str) -> str:
    """The path of the module that a node was traced in."""
    return name.partition("/")[0].removeprefix(_SCOPE)


class _Samples:
    """Samples that report their use, so that our progress bar replaces that of NNCF."""

    def __init__(self, inputs: Sequence[Sequence[Any]], on_sample: Callable[[], None]) -> None:
        self._inputs, self._on_sample = inputs, on_sample

    def __iter__(self) -> Iterator[list[Any]]:
        for each in self._inputs:
            yield [tensor.detach().float().contiguous().numpy() for tensor in each]
            self._on_sample()

    def __len__(self) -> int:
        return len(self._inputs)
