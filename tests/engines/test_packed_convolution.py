"""Convolutions with weights in oneDNN's order: the same results, and only where they are faster."""

import pytest
import torch
from torch import nn

import metaprompts
from metaprompts.engines import packed_convolution
from metaprompts.engines.packed_convolution import PackedConvolution, pack_convolutions
from small import smooth_images

LAYERS = {
    "3x3": lambda: nn.Conv2d(1024, 1030, 3, padding=1),
    "no bias": lambda: nn.Conv2d(24, 1024, 3, padding=1, bias=False),
    "strided": lambda: nn.Conv2d(16, 1024, 3, padding=1, stride=2),
    "1x1": lambda: nn.Conv2d(48, 1024, 1),
    "grouped": lambda: nn.Conv2d(64, 1024, 3, padding=1, groups=4),
    "transposed": lambda: nn.ConvTranspose2d(48, 1024, 4, stride=2, padding=1),
}


@pytest.mark.parametrize("size", [(2, 5, 7), (1, 16, 16)])
@pytest.mark.parametrize("name", LAYERS)
@torch.inference_mode()
def test_results_are_those_of_the_layer(name, size):
    torch.manual_seed(0)
    layer = LAYERS[name]()
    batch, height, width = size
    features = torch.randn(batch, layer.in_channels, height, width)
    found = PackedConvolution(layer)(features)
    torch.testing.assert_close(found, layer(features), rtol=1e-4, atol=1e-5)
    assert found.is_contiguous()


def test_only_wide_convolutions_are_replaced():
    module = nn.Sequential(nn.Conv2d(2048, 64, 1), nn.Sequential(nn.Conv2d(64, 1024, 1)), nn.Linear(64, 2048))
    pack_convolutions(module)
    assert [type(each) for each in (module[0], module[1][0], module[2])] == [nn.Conv2d, PackedConvolution, nn.Linear]


def test_the_weights_of_the_layer_are_not_read_again():
    """They are mapped from a file, whose pages are released."""
    layer, features = LAYERS["3x3"](), torch.ones(1, 1024, 4, 4)
    with torch.inference_mode():
        expected = layer(features)
        packed = PackedConvolution(layer)
        layer.weight.data.zero_()
        torch.testing.assert_close(packed(features), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("packed", [True, False])
def test_a_model_of_packed_layers_equals_the_plain_path(packed, monkeypatch):
    """The layers of the miniature are narrow, so the limit is lowered."""
    monkeypatch.setattr(packed_convolution, "_LEAST_CHANNELS", 8 if packed else 10**9)
    model, image = metaprompts.load("micro-depth", "cpu"), smooth_images(1, 64, 96)[0].permute(1, 2, 0)
    pixels = (image * 255).round().to(torch.uint8).numpy()
    expected = model.predict(pixels).depth_m
    engine = metaprompts.load("micro-depth", "cpu", engine="eager")
    assert any(isinstance(each, PackedConvolution) for each in engine.parts._prepared.modules()) == packed
    found = engine.predict(pixels).depth_m
    assert abs(found - expected).max() < 1e-4 * expected.std()
