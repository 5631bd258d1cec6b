"""Quantize a model, for the OpenVINO engine or for export to ONNX."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from torch.utils._pytree import tree_leaves

from metaprompts.engines.converted import multiple_of
from metaprompts.engines.openvino import (
    OpenVinoParts,
    build_openvino,
    quantized,
    read_network,
    save_network,
    weight_bits,
)
from metaprompts.engines.optimized import PARTS, OptimizedModel, Parts, run
from metaprompts.engines.quantization.calibration import Calibration
from metaprompts.engines.quantization.recording import Recorded, record
from metaprompts.engines.quantization.sensitivity import (
    SAMPLES,
    Group,
    Sensitivity,
    mean_error,
    measure,
    relative_error,
)
from metaprompts.models.model import MetaPromptModel
from metaprompts.utils.files import read_json, write_json

REPORT = "quantization.json"
"""The file that states which layers are not quantized, and why."""

BOUND = 0.05
"""Bound on the error of the raw output: its root mean square, relative to the output's standard deviation."""

MOST_UNQUANTIZED = 0.05
"""Largest total cost of the groups that are left unquantized, see `Group.cost`."""

# Each attempt quantizes the networks again, which takes minutes at full width.
_ATTEMPTS = 2

QuantizedParts = TypeVar("QuantizedParts", bound=Parts)


def build_quantized(prepared: OptimizedModel, model: MetaPromptModel, calibration: Calibration, folder: Path) -> None:
    """Write each part as an OpenVINO network with 8-bit weights and activations, and quantization.json.

    Args:
        prepared: the prepared model, in float32
        model: the model that it was prepared from
        calibration: calibration images
        folder: output folder of encode.xml, encode.bin, ...

    Raises:
        InputError: there is nothing to calibrate on
    """
    recorded = record(prepared, model, calibration)

    def attempt(unquantized: Sequence[Group]) -> Parts:
        for part in PARTS:
            left = {each.name for each in unquantized if each.part == part}
            inputs = [tree_leaves(arguments) for sample in recorded for arguments in sample.calls[part]]
            network = quantized(read_network(Path(scratch), part), inputs, left, f"quantizing {part}")
            save_network(network, folder / f"{part}.xml")
        return OpenVinoParts(folder, "w8a8", multiple_of(prepared))

    with TemporaryDirectory(dir=folder) as scratch:
        # Weights that stay unquantized take 16 bits; quantized networks can no longer be compressed.
        build_openvino(prepared, Path(scratch), "bf16")
        _, facts = _quantize(prepared, recorded, calibration, attempt)
    write_json(folder / REPORT, facts)


def quantize_layers(
    prepared: OptimizedModel, model: MetaPromptModel, calibration: Calibration
) -> tuple[OptimizedModel, dict[str, Any]]:
    """A prepared model whose PyTorch layers are quantized, and the content of quantization.json.

    Arguments and errors are those of `build_quantized`.
    """
    # Here, because its operators are part of torch.ao, which not every release of PyTorch may have.
    from metaprompts.engines.quantization.quantized_layers import input_statistics, with_quantized_layers

    recorded = record(prepared, model, calibration)
    statistics = input_statistics(prepared, recorded)

    def attempt(unquantized: Sequence[Group]) -> OptimizedModel:
        left = {(each.part, each.name) for each in unquantized}
        return with_quantized_layers(prepared, statistics, left, weight_bits())

    return _quantize(prepared, recorded, calibration, attempt)


def _quantize(
    prepared: OptimizedModel,
    recorded: Sequence[Recorded],
    calibration: Calibration,
    attempt: Callable[[Sequence[Group]], QuantizedParts],
) -> tuple[QuantizedParts, dict[str, Any]]:
    """Quantized parts, and the content of quantization.json.

    Groups of layers are measured one by one, and those whose rounding costs most are not quantized, until the estimated
    error of the raw output is below `BOUND`. If the measured error of the quantized parts exceeds it, one more attempt
    leaves more groups unquantized.

    Args:
        prepared: the prepared model, in float32
        recorded: the calibration samples
        calibration: the calibration images
        attempt: quantizes all but the given groups
    """
    measured = recorded[:SAMPLES]
    sensitivity = measure(prepared, measured, weight_bits())
    parts: list[QuantizedParts] = []

    @torch.no_grad()
    def error(unquantized: Sequence[Group]) -> float:
        parts[:] = [attempt(unquantized)]
        raws = [run(parts[0], prepared.task, sample.images, sample.conditioning) for sample in measured]
        return mean_error([relative_error(raw, sample.raw) for raw, sample in zip(raws, measured, strict=True)])

    unquantized, found = search(sensitivity, error)
    return parts[0], report(sensitivity, unquantized, found, calibration, len(recorded))


def search(sensitivity: Sensitivity, attempt: Callable[[Sequence[Group]], float]) -> tuple[list[Group], float]:
    """Choose the groups to leave unquantized; returns them and the measured error.

    Args:
        sensitivity: the measured groups
        attempt: quantizes a model except for the given groups, and returns the error of its raw output
    """
    unquantized = sensitivity.choose(BOUND, MOST_UNQUANTIZED)
    error = attempt(unquantized)
    for _ in range(_ATTEMPTS - 1):
        if error <= BOUND:
            break
        # The quantized networks are worse than estimated, so the estimate has to be as much better.
        more = sensitivity.choose(BOUND * min(1.0, sensitivity.estimate(unquantized) / error), MOST_UNQUANTIZED)
        if len(more) <= len(unquantized):
            break
        unquantized, error = more, attempt(more)
    return unquantized, error


def report(
    sensitivity: Sensitivity, unquantized: Collection[Group], error: float, calibration: Calibration, samples: int
) -> dict[str, Any]:
    """The content of quantization.json."""
    return {
        "calibration": calibration.source,
        "samples": samples,
        "weight_bits": weight_bits(),
        "bound": BOUND,
        "error": error,
        "estimated_error": sensitivity.estimate(unquantized),
        "unquantized_share": sum(each.share for each in unquantized),
        "unquantized_weights": sum(each.weights for each in unquantized),
        "others_share": sensitivity.others_share,
        "groups": [{**vars(each), "quantized": each not in unquantized} for each in sensitivity.groups],
    }


def summary(folder: Path) -> str:
    """One line on how a model was quantized, and how much its output changed."""
    facts = read_json(folder / REPORT)
    left = [each for each in facts["groups"] if not each["quantized"]]
    share, weights = facts["unquantized_share"], facts["unquantized_weights"]
    above = f", above the bound of {facts['bound']:.0%}" if facts["error"] > facts["bound"] else ""
    return (
        f"calibrated on {facts['calibration']}; {len(left)} of {len(facts['groups'])} groups of layers, {share:.1%} of "
        f"the multiplications and {weights:.1%} of the weights, are not quantized; the raw output differs by "
        f"{facts['error']:.1%} of its standard deviation{above}"
    )
