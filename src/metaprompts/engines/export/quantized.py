"""Write a whole model with 8-bit weights and activations."""

from pathlib import Path

from metaprompts.engines.export.formats import FORMATS, write_connected
from metaprompts.engines.export.full_model import WholeModel
from metaprompts.engines.factory import quantized_networks
from metaprompts.engines.quantization.build import REPORT, quantize_layers
from metaprompts.engines.quantization.calibration import Calibration, of_scenes
from metaprompts.models.model import MetaPromptModel
from metaprompts.utils.files import read_json, write_json


def write_quantized(
    kind: str,
    model: MetaPromptModel,
    whole: WholeModel,
    size: tuple[int, int],
    path: Path,
    *,
    steps: int | None,
    calibration: Calibration | None,
) -> None:
    """Write a whole model in w8a8, with quantization.json next to it.

    OpenVINO's file has the networks that the engine executes, from the cache if they are there. ONNX has
    QuantizeLinear and DequantizeLinear nodes before convolutions and products with weights.

    Args:
        kind: "onnx" or "openvino"
        model: the model
        whole: the whole model in float32
        size: (H, W) of the network's images
        path: the file to write
        steps: refinement steps, if fewer than K
        calibration: images on which the ranges of activations are measured; by default generated scenes

    Raises:
        InputError: NNCF is not installed, or there is nothing to calibrate on
    """
    if kind == "openvino":
        folder = quantized_networks(model, steps, calibration)
        write_connected(folder, whole, size, path)
        facts = read_json(folder / REPORT)
    else:
        parts, facts = quantize_layers(whole.prepared, model, calibration or of_scenes())
        FORMATS[kind].write(WholeModel(parts, every_step=whole.every_step).eval(), size, path)
    write_json(path.with_name(REPORT), facts)
