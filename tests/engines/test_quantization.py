"""8-bit weights and activations: calibration, sensitivity of layers, and the quantized networks."""

import json
import logging
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import metaprompts
from metaprompts.cli import main
from metaprompts.cli.calibration import calibration_of
from metaprompts.cli.people import People
from metaprompts.engines import factory
from metaprompts.engines.factory import Approximation, installed, open_engine
from metaprompts.engines.openvino import compute_hint, quantized, weight_bits
from metaprompts.engines.optimized import OptimizedModel
from metaprompts.engines.quantization import build
from metaprompts.engines.quantization.calibration import (
    Calibration,
    CalibrationOptions,
    of_folder,
    of_images,
    of_scenes,
    spread,
)
from metaprompts.engines.quantization.recording import record
from metaprompts.engines.quantization.sensitivity import Group, Sensitivity, measure
from metaprompts.engines.quantization.simulation import FakeQuantization, Multiplications, group_of
from metaprompts.errors import InputError
from metaprompts.synthetic import generate_scene
from small import small_model, smooth_images, tiny_backbone


@pytest.fixture(scope="module")
def tiny() -> metaprompts.MetaPromptModel:
    return small_model("segmentation", tiny_backbone())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        Image.fromarray(np.full((64, 64, 3), 40 * number, np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("layers.conv_in", "layers.conv_in"),
        ("latent.layers.conv_in", "layers.conv_in"),
        ("second.network.encoder.layer.3.mlp.fc1", "second.network.encoder.layer.3"),
        ("second.projections.0", "second.projections.0"),
        ("layers.down_blocks.1.resnets.0.conv1", "layers.down_blocks.1.resnets"),
        ("layers.mid_block.attentions.0.to_q", "layers.mid_block.attentions"),
        ("unet.up_blocks.3.attentions.1.transformer_blocks.0.ff.net.2", "unet.up_blocks.3.attentions"),
        ("unet.up_blocks.3.upsamplers.0", "unet.up_blocks.3.upsamplers"),
        ("rearrangement", "rearrangement"),
        ("head.smooth.1.0", "head.smooth"),
    ],
)
def test_layers_are_grouped_by_block_and_kind(path: str, group: str) -> None:
    assert group_of(path) == group


def test_rounds_only_the_layers_of_a_group() -> None:
    """To steps of a 127th of each channel's largest weight, and of a 255th of the inputs' range."""
    torch.manual_seed(0)
    part = nn.ModuleDict(
        {"first": nn.ModuleDict({"a": nn.Linear(8, 4)}), "second": nn.ModuleDict({"b": nn.Conv2d(3, 4, 1)})}
    )
    inputs = torch.randn(5, 8)
    layer = part["first"]["a"]

    with torch.no_grad(), FakeQuantization(part, frozenset(["first.a"])):
        rounded = layer(inputs)
        same = part["second"]["b"](torch.ones(1, 3, 1, 1))

    assert torch.equal(same, part["second"]["b"](torch.ones(1, 3, 1, 1)))
    steps = layer.weight.abs().amax(1, keepdim=True) / 127
    weight = (layer.weight / steps).round() * steps
    step = float(inputs.max() - inputs.min()) / 255
    zero = round(-float(inputs.min()) / step)
    seen = (((inputs / step).round() + zero).clamp(0, 255) - zero) * step
    assert torch.allclose(rounded, seen @ weight.T + layer.bias, atol=1e-5)
    assert (rounded - layer(inputs)).abs().max() > 1e-4
    assert not layer._forward_hooks


def test_counts_multiplications() -> None:
    part = nn.ModuleDict(
        {"a": nn.Conv2d(3, 4, 3, padding=1), "b": nn.ConvTranspose2d(4, 2, 4, 2, 1), "c": nn.Linear(6, 5)}
    )

    with torch.no_grad(), Multiplications(part) as counter:
        part["b"](part["a"](torch.zeros(1, 3, 6, 6)))
        part["c"](torch.zeros(2, 6))
        queries = torch.zeros(1, 2, 7, 3)
        torch.nn.functional.scaled_dot_product_attention(queries, queries[:, :, :5], queries[:, :, :5])

        part["c"](torch.zeros(1, 6))

    assert counter.layers == {"a": 36 * 4 * 27, "c": 3 * 5 * 6}
    assert counter.weights == {"a": 4 * 27, "c": 5 * 6}
    assert counter.others == 4 * 36 * 2 * 16 + 2 * 2 * 7 * 5 * 3


GROUPS = [
    Group(part="encode", name="costly", error=0.06, share=0.5, weights=0.1),
    Group(part="unet_step", name="cheap", error=0.06, share=0.01, weights=0.01),
    Group(part="unet_step", name="harmless", error=0.01, share=0.3, weights=0.2),
    Group(part="decode", name="small", error=0.04, share=0.02, weights=0.0),
]
MEASURED = Sensitivity(groups=GROUPS, others_share=0.1)


@pytest.mark.parametrize(
    ("bound", "most", "left"),
    [
        (0.1, 1.0, []),
        (0.09, 1.0, ["cheap"]),
        (0.065, 1.0, ["cheap", "small"]),
        (0.02, 1.0, ["cheap", "small", "costly"]),
        (0.0, 0.2, ["cheap", "small"]),
        (0.0, 0.0, []),
    ],
)
def test_leaves_out_what_saves_the_most_error_for_its_multiplications(
    bound: float, most: float, left: list[str]
) -> None:
    """Until the bound is met, but never more than a share of the multiplications."""
    assert [each.name for each in MEASURED.choose(bound, most)] == left


def test_a_group_with_many_weights_costs_its_share_of_the_weights() -> None:
    """The deepest layers have few multiplications and many weights: unquantized, they took a fifth of the memory."""
    deep = Group(part="unet_step", name="deep", error=0.06, share=0.001, weights=0.2)
    measured = Sensitivity(groups=[deep, *GROUPS], others_share=0)

    assert [each.name for each in measured.choose(0.0, 0.19)] == ["cheap", "small"]
    assert [each.name for each in measured.choose(0.0, 0.3)] == ["cheap", "small", "deep"]


@pytest.mark.parametrize(
    ("errors", "attempts", "found"), [([0.04], 1, 0.04), ([0.09, 0.03], 2, 0.03), ([0.2, 0.1], 2, 0.1)]
)
def test_quantizes_once_more_if_the_error_is_above_the_bound(errors: list[float], attempts: int, found: float) -> None:
    """The networks' error is measured: the estimate knows only one group at a time."""
    measured = Sensitivity(
        groups=[*GROUPS[1:], Group(part="encode", name="first", error=0.03, share=0.02, weights=0.0)], others_share=0
    )
    made: list[Sequence[Group]] = []

    def attempt(unquantized: Sequence[Group]) -> float:
        made.append(unquantized)
        return errors[len(made) - 1]

    left, error = build.search(measured, attempt)

    assert (len(made), error, left) == (attempts, found, made[-1])
    assert all(len(second) > len(first) for first, second in pairwise(made))


@pytest.mark.slow
def test_measures_every_group_of_a_model(tiny: metaprompts.MetaPromptModel) -> None:
    """The shares of all layers and products make up the whole prediction."""
    prepared = OptimizedModel(tiny)
    recorded = record(prepared, tiny, of_scenes(1))

    found = measure(prepared, recorded, 8)

    names = {(each.part, each.name) for each in found.groups}
    assert {("encode", "layers.conv_in"), ("unet_step", "unet.conv_out"), ("decode", "head.classify")} <= names
    assert sum(each.share for each in found.groups) + found.others_share == pytest.approx(1)
    assert sum(each.weights for each in found.groups) == pytest.approx(1)
    assert all(0 < each.error < 0.5 for each in found.groups)


def test_records_all_steps_and_no_more_than_the_samples(tiny: metaprompts.MetaPromptModel) -> None:
    prepared, images = OptimizedModel(tiny), [generate_scene(seed, 64, 64).image for seed in (1, 2, 3)]

    recorded = record(prepared, tiny, of_images(images, 2))

    assert [{part: len(calls) for part, calls in each.calls.items()} for each in recorded] == [
        {"encode": 1, "unet_step": 3, "decode": 1}
    ] * 2
    with torch.no_grad():
        assert torch.equal(recorded[0].raw, prepared(recorded[0].images))


def test_a_calibration_without_people_says_so() -> None:
    model = small_model("pose", tiny_backbone())
    empty = of_images([(np.zeros((64, 64, 3), np.uint8), [])], 2)

    with pytest.raises(InputError, match="calibration has nothing to predict in 1 given image:"):
        record(OptimizedModel(model), model, empty)


def test_images_are_evenly_spread() -> None:
    assert spread(range(10), 4) == [0, 2, 5, 7]
    assert spread([1, 2], 4) == [1, 2]


def test_a_calibration_is_known_by_its_images(photos: Path) -> None:
    """Another number of samples or another image is another quantized network."""
    first, fewer = of_folder(photos), of_folder(photos, 3)
    assert first.source == f"5 images of {photos}"
    assert of_folder(photos).to_dict() == first.to_dict() != fewer.to_dict()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(photos / "3.png")
    assert of_folder(photos).to_dict() != first.to_dict()
    assert of_images([np.zeros((4, 4, 3), np.uint8)]).to_dict() != of_images([np.ones((4, 4, 3), np.uint8)]).to_dict()


def test_where_calibration_images_come_from(photos: Path, tmp_path: Path) -> None:
    """The folder if there is one, else the images to predict that can be read, else generated scenes."""
    (photos / "5.png").write_bytes(b"no image")
    paths = [*sorted(photos.iterdir()), photos / "missing.png"]

    def own(samples: int) -> Calibration | None:
        return calibration_of(paths, People(), None, None, "options", samples)

    def source(options: CalibrationOptions, own: Callable[[int], Calibration | None]) -> str:
        found = options.calibration("w8a8", own)
        assert found is not None
        return found.source

    assert source(CalibrationOptions(folder=photos, samples=2), own) == f"2 images of {photos}"
    assert source(CalibrationOptions(), own) == "6 images to predict"
    assert source(CalibrationOptions(), lambda samples: None) == "32 generated scenes"
    assert CalibrationOptions().calibration("bf16", own) is None


def test_images_to_predict_that_cannot_be_decoded_are_skipped(photos: Path, tiny: metaprompts.MetaPromptModel) -> None:
    """They are reported when they are predicted, and must not stop the others."""
    (photos / "0.png").write_bytes(b"no image")
    calibration = calibration_of(sorted(photos.iterdir()), People(), None, None, "options", 3)
    assert calibration is not None

    assert len(record(OptimizedModel(tiny), tiny, calibration)) == 2


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--calibration", "{}"],
            "--calibration requires --precision w8a8: add --precision w8a8, or omit --calibration",
        ),
        (["--calibration-samples", "4", "--precision", "bf16"], "--calibration-samples requires --precision w8a8"),
        (["--precision", "w8a8", "--calibration", "{}/missing"], "missing; expected a folder of images"),
        (["--precision", "w8a8", "--calibration-samples", "0"], "--calibration-samples"),
        (
            ["--precision", "w8a8", "--engine", "eager"],
            "engine eager supports fp32, bf16 and fp16, not w8a8: choose openvino",
        ),
        (["--precision", "int8"], "'int8' is not one of 'fp32', 'bf16', 'fp16', 'w8a16', 'w8a8'"),
    ],
)
def test_options_of_calibration(words: list[str], line: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [word.format(photos) for word in words]

    assert main(["predict", "micro-depth", str(photos), "--out", str(photos.parent / "out"), *given]) == 2

    assert line in capsys.readouterr().err


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="which has no images: pass another folder, or omit --calibration"):
        of_folder(tmp_path)


def test_calibration_is_for_w8a8() -> None:
    with pytest.raises(InputError, match="calibration applies only to precision w8a8, not fp32"):
        open_engine(small_model("depth"), engine="openvino", calibration=of_scenes(1))


@pytest.mark.parametrize(
    ("flags", "bits", "hint"),
    [
        ("avx2", 7, "f32"),
        ("avx512_vnni", 8, "f32"),
        ("avx512_vnni avx512_bf16", 8, "bf16"),
        ("amx_int8 amx_bf16", 8, "bf16"),
    ],
)
def test_weights_and_the_rest_fit_the_processor(
    flags: str, bits: int, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8-bit weights saturate where pairs of products are added in 16 bits; bf16 is slow where it is emulated."""
    monkeypatch.setattr("metaprompts.engines.openvino.cpu_flags", lambda: frozenset(flags.split()))

    assert (weight_bits(), compute_hint("w8a8")) == (bits, hint)


def test_the_cache_is_keyed_by_the_calibration(
    tiny: metaprompts.MetaPromptModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs with the same images share a network; other images, samples or weights in 7 bits make another.

    So does another limit on what stays unquantized: networks of an earlier release were used on. Asking for all K
    steps by number quantized again.
    """
    built: list[Path] = []

    def fake(prepared: object, model: object, calibration: Calibration, folder: Path) -> None:
        (folder / "quantization.json").write_text(json.dumps(REPORT))
        built.append(folder)

    monkeypatch.setattr(build, "build_quantized", fake)

    how: dict[str, Any] = {"engine": "openvino", "precision": "w8a8", "cache": tmp_path}

    def opened(calibration: Calibration | None) -> str:
        return str(open_engine(tiny, **how, calibration=calibration))

    for calibration in (None, of_scenes(), of_scenes(2), of_scenes(2), of_images([np.zeros((64, 64, 3), np.uint8)])):
        line = opened(calibration)
    assert len(built) == 3
    assert line == (
        "engine: openvino, w8a8 (asked for; calibrated on 2 photos; 1 of 2 groups of layers, 1.0% of the "
        "multiplications and 2.0% of the weights, are not quantized; the raw output differs by 6.0% of its standard "
        "deviation, above the bound of 5%)"
    )
    open_engine(tiny, **how, approximation=Approximation(steps=tiny.config.refinement.steps))
    assert len(built) == 3
    monkeypatch.setattr(factory, "weight_bits", lambda: 5)
    opened(None)
    assert len(built) == 4
    monkeypatch.setattr(build, "MOST_UNQUANTIZED", 0.2)
    opened(None)
    assert len(built) == 5


REPORT = {
    "calibration": "2 photos",
    "bound": 0.05,
    "error": 0.06,
    "unquantized_share": 0.01,
    "unquantized_weights": 0.02,
    "groups": [{"quantized": False}, {"quantized": True}],
}


def test_a_quantized_network_says_nothing_and_computes_in_8_bits(capfd: pytest.CaptureFixture[str]) -> None:
    """NNCF prints progress bars on stdout, and once raised the level of all handlers of its logger, of others too.

    Groups that stay unquantized keep their weights.
    """
    if not installed("nncf"):
        pytest.skip("nncf is not installed")
    import openvino

    torch.manual_seed(0)
    part = nn.Sequential()
    part.add_module("first", nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()))
    part.add_module("last", nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()))
    network = openvino.convert_model(part, example_input=torch.zeros(1, 3, 8, 8))
    handler = logging.NullHandler()
    logging.getLogger("nncf").addHandler(handler)

    smaller = quantized(network, [[smooth_images(1, 8, 8)] for _ in range(2)], {"last.0"}, "quantizing")

    kinds = [each.get_type_name() for each in smaller.get_ops()]
    assert kinds.count("FakeQuantize") in (1, 2)
    assert "i8" in {each.get_element_type().get_type_name() for each in smaller.get_ops()}
    assert "FakeQuantize" not in {each.get_type_name() for each in network.get_ops()}
    assert capfd.readouterr().out == ""
    assert handler.level == logging.NOTSET
    logging.getLogger("nncf").removeHandler(handler)
    assert quantized(network, [], {"first.0", "last.0"}, "quantizing") is network


@pytest.mark.full
@pytest.mark.parametrize("task", ["segmentation", "depth", "pose"])
def test_quantized_networks_stay_near_the_plain_path(task: str, tmp_path: Path) -> None:
    """Of weights that learned nothing; the second opening takes the network from the cache."""
    if not installed("nncf"):
        pytest.skip("nncf is not installed")
    model = small_model(task, tiny_backbone())
    images = smooth_images(2, 64, 64)
    with torch.no_grad():
        plain = model(images)
    calibration = of_images([(255 * each.permute(1, 2, 0)).byte().numpy() for each in images])

    fast = open_engine(model, engine="openvino", precision="w8a8", cache=tmp_path, calibration=calibration)

    assert 1e-3 < (fast(images) - plain).square().mean().sqrt() / plain.std() < 0.2
    (report,) = tmp_path.glob("*/quantization.json")
    facts = json.loads(report.read_text())
    assert facts["samples"] == 2
    assert facts["unquantized_share"] <= build.MOST_UNQUANTIZED
    assert facts["unquantized_weights"] <= build.MOST_UNQUANTIZED
    written = report.stat().st_mtime_ns
    again = open_engine(model, engine="openvino", precision="w8a8", cache=tmp_path, calibration=calibration)
    assert torch.equal(again(images), fast(images))
    assert report.stat().st_mtime_ns == written
