"""PyTorch layers with 8-bit weights and inputs, and the ONNX nodes they export as."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import metaprompts
from metaprompts.engines.factory import installed
from metaprompts.engines.optimized import OptimizedModel
from metaprompts.engines.quantization.build import BOUND, quantize_layers
from metaprompts.engines.quantization.calibration import of_images
from metaprompts.engines.quantization.quantized_layers import (
    InputStatistics,
    Layer,
    QuantizedLayer,
    input_statistics,
    with_quantized_layers,
)
from metaprompts.engines.quantization.recording import record
from small import small_model, smooth_images, tiny_backbone


def _layer(kind: str) -> tuple[Layer, torch.Tensor]:
    """A layer, and inputs that are never negative, so that errors of weights have a mean."""
    torch.manual_seed(0)
    layers = {
        "linear": (nn.Linear(24, 16), (400, 24)),
        "convolution": (nn.Conv2d(24, 16, 3, stride=2, padding=1), (4, 24, 16, 16)),
    }
    layer, shape = layers[kind]
    return layer, torch.rand(shape)


KINDS = ("linear", "convolution")


@pytest.mark.parametrize("kind", KINDS)
def test_computes_what_the_layer_computes(kind: str) -> None:
    """Up to 8 bits, and exactly on values that 8 bits represent."""
    layer, inputs = _layer(kind)

    with torch.no_grad():
        quantized = QuantizedLayer(layer, InputStatistics.of(layer, inputs), 8)
        expected, found = layer(inputs), quantized(inputs)

    assert quantized.weight.dtype == torch.int8
    assert found.shape == expected.shape
    assert 1e-4 < (found - expected).square().mean().sqrt() / expected.std() < 0.02


def test_inputs_and_weights_have_one_step_in_255() -> None:
    """Of the range of all inputs, widened to contain zero, and of twice the largest weight of an output channel."""
    layer = nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([127.0, -64.0]).view(2, 1, 1, 1))
        layer.bias.zero_()
    inputs = torch.tensor([0.0, 1.0, 1.4, 255.0]).view(4, 1, 1, 1)

    quantized = QuantizedLayer(layer, InputStatistics.of(layer, inputs), 8)

    assert quantized(inputs).flatten(1).T.tolist() == [[0, 127, 127, 127 * 255], [0, -64, -64, -64 * 255]]
    assert quantized(torch.full((1, 1, 1, 1), 300.0)).flatten().tolist() == [127 * 255, -64 * 255]


@pytest.mark.parametrize("kind", KINDS)
def test_the_bias_is_corrected(kind: str) -> None:
    """Rounding weights of few bits shifts the mean of each output channel."""
    layer, inputs = _layer(kind)

    with torch.no_grad():
        quantized = QuantizedLayer(layer, InputStatistics.of(layer, inputs), 3)
        error = (quantized(inputs) - layer(inputs)).transpose(0, 1 if kind != "linear" else -1).flatten(1).mean(1)
        quantized.bias = torch.zeros(16) if layer.bias is None else layer.bias
        without = (quantized(inputs) - layer(inputs)).transpose(0, 1 if kind != "linear" else -1).flatten(1).mean(1)

    # Borders read padding, which the correction does not know.
    assert error.square().mean() < 0.1 * without.square().mean()


def test_outliers_of_a_channel_move_into_the_weights() -> None:
    """Without SmoothQuant, one input channel a hundred times as large leaves the others 2.5 of 255 steps."""
    layer, inputs = _layer("linear")
    with torch.no_grad():
        inputs[:, 3] *= 100
        layer.weight[:, 3] /= 100
        expected = layer(inputs)
        smooth = QuantizedLayer(layer, InputStatistics.of(layer, inputs), 8)
        step = float(inputs.max()) / 255
        rough = layer((inputs / step).round() * step)

    assert (smooth(inputs) - expected).std() < 0.1 * (rough - expected).std()


@pytest.fixture(scope="module")
def tiny() -> metaprompts.MetaPromptModel:
    return small_model("depth", tiny_backbone())


def test_all_layers_but_those_left_out_are_quantized(tiny: metaprompts.MetaPromptModel) -> None:
    """The first convolution of residual layers lost its bias to the shifts; doubling layers interpolate first.

    Transposed convolutions are never quantized.
    """
    prepared = OptimizedModel(tiny)
    recorded = record(prepared, tiny, of_images([(255 * smooth_images(1, 64, 64)[0].permute(1, 2, 0)).byte().numpy()]))
    left = [("encode", "layers.conv_in"), ("decode", "head.regress")]

    copied = with_quantized_layers(prepared, input_statistics(prepared, recorded), left, 8)

    layers = (nn.Conv2d, nn.Linear)
    kept = [
        f"{part}.{path}"
        for part in ("encode", "unet_step", "decode")
        for path, module in getattr(copied, part).named_modules()
        if isinstance(module, layers)
    ]
    assert kept[0] == "encode.latent.layers.conv_in"
    assert {path.partition(".")[0] for path in kept[1:]} == {"decode"}
    assert all(path.startswith("decode.head.regress") for path in kept[1:])
    assert not any(isinstance(module, QuantizedLayer) for module in prepared.modules())


@pytest.mark.slow
def test_the_quantized_model_is_near_the_plain_one(tiny: metaprompts.MetaPromptModel) -> None:
    """By the error that its report states, which is below the bound."""
    images = smooth_images(2, 64, 64)
    calibration = of_images([(255 * each.permute(1, 2, 0)).byte().numpy() for each in images])

    quantized, facts = quantize_layers(OptimizedModel(tiny), tiny, calibration)

    with torch.no_grad():
        plain, found = tiny(images), quantized(images)
    assert facts["samples"] == 2
    assert 1e-3 < facts["error"] < BOUND
    assert (found - plain).square().mean().sqrt() / plain.std() == pytest.approx(facts["error"], rel=0.5)


def test_exports_as_quantize_and_dequantize_nodes(tmp_path: Path) -> None:
    """ONNX Runtime computes the same; weights are stored in 8 bits."""
    if not installed("onnx"):
        pytest.skip("onnx is not installed")
    import onnx
    import onnxruntime

    torch.manual_seed(0)
    layers: list[Layer] = [nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3), nn.Linear(6, 12)]
    model, inputs = nn.Sequential().eval(), torch.rand(1, 3, 8, 8)
    seen = inputs
    for layer in layers:
        model.append(QuantizedLayer(layer, InputStatistics.of(layer, seen), 8))
        seen = layer(seen)

    torch.onnx.export(model, (inputs,), dynamo=True, verbose=False).save(tmp_path / "model.onnx")

    graph = onnx.load(tmp_path / "model.onnx").graph
    kinds = [node.op_type for node in graph.node]
    assert (kinds.count("QuantizeLinear"), kinds.count("DequantizeLinear")) == (3, 6)
    made = {node.output[0]: node for node in graph.node}
    for node in graph.node:
        if node.op_type in ("Conv", "MatMul"):
            assert [made[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
    stored = {each.name: each.data_type for each in graph.initializer if len(each.dims) > 1}
    assert set(stored.values()) == {onnx.TensorProto.INT8}
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    with torch.no_grad():
        expected = model(inputs).numpy()
    # A value between two steps may be rounded to either.
    assert np.square(found - expected).mean() ** 0.5 < 5e-3 * expected.std()
