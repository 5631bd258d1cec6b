"""Every engine predicts what the plain path predicts."""

import copy
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch._inductor.constant_folding import constant_fold
from torch._inductor.exc import InductorError

import metaprompts
from metaprompts.engines import factory, onnxruntime
from metaprompts.engines.by_torch import CompiledParts, _freeing_copies
from metaprompts.engines.converted import examples, multiple_of
from metaprompts.engines.factory import installed, open_engine, weights_type
from metaprompts.engines.onnxruntime import AnySizePooling, RowwiseGroupNorm, build_onnx
from metaprompts.engines.openvino import OpenVinoParts, _with_small_weights, converted_by_openvino
from metaprompts.engines.optimized import OptimizedModel
from metaprompts.errors import InputError
from metaprompts.synthetic import generate_scene
from slow import slow_except
from small import small_model, smooth_images, tiny_backbone

TASKS = ("segmentation", "depth", "pose")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


# Compiling and converting take minutes of a core: `make test` converts a network with fewer layers, and compiles none.
_PAIRS = [
    pytest.param(engine, task, marks=[] if engine == "eager" else pytest.mark.full, id=f"{engine}-{task}")
    for engine in ("eager", "compile", "openvino", "onnx")
    for task in TASKS
]


@pytest.mark.parametrize(("engine", "task"), _PAIRS)
def test_equals_the_plain_path(engine: str, task: str, cache: Path) -> None:
    """Differences in float32 stay below 1e-4 of the standard deviation, for two sizes by one converted model."""
    _check_equals_the_plain_path(metaprompts.load(f"micro-{task}", "cpu"), engine, cache)


@pytest.mark.parametrize("engine", ["openvino", pytest.param("onnx", marks=pytest.mark.full)])
@pytest.mark.slow
def test_a_converted_network_of_fewer_layers_equals_the_plain_path(engine: str, cache: Path) -> None:
    """Segmentation has the most kinds of layers."""
    _check_equals_the_plain_path(small_model("segmentation", tiny_backbone()), engine, cache)


@pytest.mark.slow
def test_onnx_encodes_images_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The UNet and the head take four times as long to convert."""
    runtime = pytest.importorskip("onnxruntime")
    prepared = OptimizedModel(small_model("depth", tiny_backbone()))
    monkeypatch.setattr(onnxruntime, "examples", lambda prepared: {"encode": examples(prepared)["encode"]})
    build_onnx(prepared, tmp_path)
    session = runtime.InferenceSession(tmp_path / "encode.onnx", providers=["CPUExecutionProvider"])

    for images in (smooth_images(1, 64, 64), smooth_images(2, 128, 64)):
        (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        (expected,) = prepared.encode(images)
        assert (torch.from_numpy(found) - expected).abs().max() < 1e-4 * expected.std()


def _check_equals_the_plain_path(model: metaprompts.MetaPromptModel, engine: str, cache: Path) -> None:
    if not installed(engine):
        pytest.skip(f"{engine} is not installed")
    sizes = [(1, 64, 64)] if engine == "compile" else [(1, 64, 64), (2, 128, 64)]
    views = [smooth_images(*size) for size in sizes]
    with torch.no_grad():
        expected = [model(images) for images in views]

    fast = open_engine(model, engine=engine, cache=cache)

    for images, plain in zip(views, expected, strict=True):
        assert (fast(images) - plain).abs().max() < 1e-4 * plain.std()


@pytest.mark.parametrize("engine", ["eager", pytest.param("openvino", marks=pytest.mark.full)])
@pytest.mark.slow
def test_16_bits_stay_near(engine: str, cache: Path) -> None:
    """Mean relative difference of depth below 1e-2, on scenes."""
    if not installed(engine):
        pytest.skip(f"{engine} is not installed")
    model = metaprompts.load("micro-depth", "cpu")
    scenes = [generate_scene(seed, 128, 192).image for seed in (900, 901)]
    expected = [model.predict(image).depth_m for image in scenes]

    fast = open_engine(model, engine=engine, precision="bf16", cache=cache)

    for image, plain in zip(scenes, expected, strict=True):
        found = fast.predict(image).depth_m
        assert abs(found / plain - 1).mean() < 1e-2
        assert abs(found - plain).max() > 0


def _compiled_parts(monkeypatch: pytest.MonkeyPatch, encode: Callable[[], str]) -> CompiledParts:
    model = small_model("pose")
    parts = CompiledParts(OptimizedModel(model), torch.float32, model.latent_encoder)
    monkeypatch.setitem(parts._compiled, "encode", encode)
    return parts


@pytest.mark.slow
def test_a_file_that_a_killed_process_left_is_compiled_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """PyTorch makes anew what is not there, but never what it cannot load."""
    damaged = tmp_path / "kernel.so"
    damaged.touch()

    def encode() -> str:
        if damaged.exists():
            raise InductorError(ImportError(f"{damaged}: file too short", path=str(damaged)), None)
        return "latent"

    assert _compiled_parts(monkeypatch, encode)._execute("encode") == "latent"
    assert "kernel.so in PyTorch's cache is damaged: compiling again" in caplog.text


@pytest.mark.parametrize("error", [ValueError("no kernel"), ImportError("no library"), ImportError("bad", path="a.so")])
def test_other_errors_of_compiling_are_reported(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The last is one that removing the file does not help against."""

    def encode() -> str:
        raise InductorError(error, None)

    with pytest.raises(InductorError, match=str(error)):
        _compiled_parts(monkeypatch, encode)._execute("encode")


def test_a_step_is_compiled_once_for_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder's latent and a step's differ in memory layout, so a step was compiled twice, and its weights were
    frozen twice.
    """
    graphs = []

    def count(graph: torch.fx.GraphModule, _: Sequence[torch.Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=count))
    model = small_model("pose")
    prepared = OptimizedModel(model)
    parts = CompiledParts(prepared, torch.float32, model.latent_encoder)
    conditions = prepared.conditions(1, None)
    latent = torch.randn(1, 16, 8, 8)

    with torch.no_grad():
        for layout in (torch.contiguous_format, torch.channels_last):
            parts.unet_step(latent.contiguous(memory_format=layout), conditions.shifts[0], conditions.keys_values[0])

    assert len(graphs) == 1


@pytest.mark.parametrize("is_own", [False, True])
def test_copies_of_weights_are_freed_while_compiling(*, is_own: bool) -> None:
    """All channels-last copies of weights were kept until the last one was reordered: 2 GiB of the peak.

    Where no copy is needed, the weights are the model's own, which it keeps.
    """
    part = nn.Conv2d(16, 16, 3)
    weight = part.weight.detach() if is_own else part.weight.detach().clone(memory_format=torch.channels_last)
    expected, graph = weight.clone(), torch.fx.Graph()
    reordered = graph.call_function(
        torch.ops.mkldnn._reorder_convolution_weight.default,
        (graph.get_attr("weight"), [0, 0], [1, 1], [1, 1], 1, [1, 16, 8, 8]),
    )
    graph.output((reordered,))
    module = torch.fx.GraphModule({"weight": weight}, graph)

    with _freeing_copies(part):
        constant_fold(module)

    assert weight.untyped_storage().nbytes() == (expected.nbytes if is_own else 0)
    assert torch.equal(next(module.buffers()).to_dense(), expected)


def test_the_same_bytes_in_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """1 of 12 runs of predict differed: which memory order was faster was tried by the clock, and each rounds in its
    own way. In float32 a CPU keeps the order that the encoder rounds less in.
    """
    images = smooth_images(1, 64, 64)
    clocks = iter(([0.0, 1.0, 1.5] * 100, [0.0, 2.0, 2.1] * 100))

    def predicted() -> tuple[torch.Tensor, torch.Tensor]:
        model = small_model("depth")
        with torch.no_grad():
            plain = model(images)
        ticks = iter(next(clocks))
        monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
        found = open_engine(model, engine="eager")(images)
        filters = [model.unet.conv_in.weight, model.latent_encoder.encoder.conv_in.weight]
        assert [each.is_contiguous() for each in filters] == [True, True]
        return plain, found

    (plain, first), (_, second) = predicted(), predicted()
    assert torch.equal(first, second)
    assert (first - plain).abs().max() < 1e-5 * plain.abs().max()


def test_16_bits_leave_the_model_as_it_was() -> None:
    model = small_model("depth")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    open_engine(model, engine="eager", precision="bf16")(smooth_images(1, 64, 64))

    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def _rounded(model: metaprompts.MetaPromptModel) -> metaprompts.MetaPromptModel:
    """In float32 what is left of a model's weights in bfloat16."""
    return copy.deepcopy(model).bfloat16().float()


@pytest.mark.parametrize(
    ("engine", "precision"), slow_except([("eager", "fp32"), ("openvino", "bf16"), ("onnx", "fp32")], ("eager", "fp32"))
)
def test_a_model_in_16_bits_is_computed_with_in_32(
    monkeypatch: pytest.MonkeyPatch, engine: str, precision: str
) -> None:
    """Networks converted from bfloat16 took no images in float32."""
    if engine != "eager":
        # What would be converted.
        monkeypatch.setitem(factory._PARTS, engine, lambda order, prepared: (prepared, ""))
    model, images = small_model("depth"), smooth_images(1, 64, 64)
    with torch.no_grad():
        expected = _rounded(model)(images)

    found = open_engine(model.bfloat16(), engine=engine, precision=precision)(images)

    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert model.dtype == torch.bfloat16


def test_a_model_in_16_bits_is_not_copied_to_compute_in_them() -> None:
    model, images = small_model("depth"), smooth_images(1, 64, 64)
    with torch.no_grad():
        expected = _rounded(model)(images)

    fast = open_engine(model.bfloat16(), engine="eager", precision="bf16")

    assert (fast(images) / expected - 1).abs().mean() < 2e-2
    assert fast.parts._prepared.unet_step.unet.conv_in.weight is model.unet.conv_in.weight


@pytest.mark.parametrize(
    ("engine", "precision", "has_openvino", "approximation", "expected"),
    [
        ("eager", "bf16", True, factory.EXACT, torch.bfloat16),
        ("compile", "bf16", True, factory.EXACT, torch.bfloat16),
        ("auto", "bf16", False, factory.EXACT, torch.bfloat16),
        ("auto", "bf16", True, factory.EXACT, torch.float32),
        ("eager", "fp32", True, factory.EXACT, torch.float32),
        ("openvino", "bf16", True, factory.EXACT, torch.float32),
        ("eager", "bf16", True, factory.Approximation(encoder=Path("encoder")), torch.float32),
    ],
)
def test_weights_are_loaded_as_they_are_needed(
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    precision: str,
    has_openvino: bool,
    approximation: factory.Approximation,
    expected: torch.dtype,
) -> None:
    """A small encoder knows its VAE by more digits, and auto may take OpenVINO, which converts from all of them."""
    monkeypatch.setattr(factory, "installed", lambda name: has_openvino)

    assert weights_type(engine, precision, torch.device("cpu"), approximation) == expected


@pytest.mark.full
def test_8_bit_weights_stay_in_the_neighborhood(cache: Path) -> None:
    if not installed("nncf"):
        pytest.skip("nncf is not installed")
    model, image = metaprompts.load("micro-depth", "cpu"), generate_scene(902, 128, 192).image
    plain = model.predict(image).depth_m

    found = open_engine(model, engine="openvino", precision="w8a16", cache=cache).predict(image).depth_m

    assert 1e-4 < abs(found / plain - 1).mean() < 0.1


def test_weights_in_8_bits_are_made_without_a_word_among_the_results(capfd: pytest.CaptureFixture[str]) -> None:
    """nncf prints statistics and a progress bar on stdout."""
    if not installed("nncf"):
        pytest.skip("nncf is not installed")
    import openvino

    network = openvino.convert_model(torch.nn.Linear(64, 64), example_input=torch.zeros(1, 64))

    smaller = _with_small_weights(network)

    assert "i8" in {each.get_element_type().get_type_name() for each in smaller.get_ops()}
    assert capfd.readouterr().out == ""


def test_predicts_images_as_the_model_does() -> None:
    model = small_model("pose")
    image = generate_scene(903, 96, 96).image
    boxes = [[10.0, 10.0, 40.0, 60.0], [30.0, 20.0, 50.0, 70.0, 0.5]]
    plain = model.predict(image, boxes)

    fast = open_engine(model, engine="eager").predict(image, boxes)

    for expected, person in zip(plain.people, fast.people, strict=True):
        assert abs(expected.keypoints - person.keypoints).max() < 1e-2


@pytest.mark.parametrize(("cells", "height", "width"), [(1, 4, 7), (3, 4, 7), (6, 4, 7), (6, 12, 5)])
def test_pooling_by_products_is_adaptive_pooling(cells: int, height: int, width: int) -> None:
    layer, features = torch.nn.AdaptiveAvgPool2d(cells), torch.randn(2, 3, height, width).double()

    assert torch.allclose(AnySizePooling(layer)(features), layer(features), rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [(6, 10), (60,)])
def test_a_norm_by_rows_is_the_norm(shape: tuple[int, ...]) -> None:
    """Of maps, and of the pixels that the encoder's attention sees; with features far from zero."""
    layer, features = torch.nn.GroupNorm(4, 8).double(), 5 + torch.randn(2, 8, *shape).double()
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)

    assert torch.allclose(RowwiseGroupNorm(layer)(features), layer(features), rtol=0, atol=1e-13)


@pytest.mark.slow
def test_a_norm_by_rows_keeps_its_digits_in_onnx(tmp_path: Path) -> None:
    """ONNX Runtime's own norm of so many numbers is more than 1e-4 off."""
    runtime = pytest.importorskip("onnxruntime")
    layer, features = torch.nn.GroupNorm(1, 4), 3 + torch.randn(1, 4, 512, 512)
    program = torch.onnx.export(RowwiseGroupNorm(layer), (features,), dynamo=True, verbose=False, optimize=False)
    program.save(tmp_path / "norm.onnx")

    session = runtime.InferenceSession(tmp_path / "norm.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: features.numpy()})

    exact = layer.double()(features.double())
    assert (torch.from_numpy(found) - exact).abs().max() < 2e-5


def test_converted_networks_say_which_sizes_they_take(tmp_path: Path) -> None:
    parts = OpenVinoParts(tmp_path, "fp32", multiple_of(OptimizedModel(small_model("pose"))))

    with pytest.raises(InputError, match=r"multiples of 64, got 64x72: choose another size, or engine eager"):
        parts.encode(smooth_images(1, 64, 72))


class _Core:
    """OpenVINO on a machine with two of Intel's GPUs."""

    available_devices = ("CPU", "GPU.0", "GPU.1")


@pytest.mark.parametrize(
    ("name", "found"), [(None, "CPU"), ("cpu", "CPU"), ("GPU", "GPU"), ("gpu", "GPU"), ("gpu.1", "GPU.1")]
)
def test_openvino_runs_where_it_is_asked_to(
    name: str | None, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same converted network, on any device."""
    monkeypatch.setattr(pytest.importorskip("openvino"), "Core", _Core)
    monkeypatch.setattr(factory, "artifact", lambda what, build, folder: tmp_path)

    monkeypatch.setattr("metaprompts.engines.openvino._compiled", lambda core, folder, *asked: asked)

    parts = open_engine(small_model("depth"), engine="openvino", device=name).parts

    device, settings, *_ = parts._request("encode", ())
    assert device == found
    assert ("INFERENCE_NUM_THREADS" in settings) == (found == "CPU")


@pytest.mark.parametrize(
    ("name", "precision", "line"),
    [
        ("gpu.2", "fp32", "OpenVINO has no device 'gpu.2' here; expected one of cpu, gpu.0, gpu.1"),
        ("cuda", "fp32", "OpenVINO has no device 'cuda' here; expected one of cpu, gpu.0, gpu.1"),
        ("gpu", "bf16", "OpenVINO supports bf16 on the CPU, not on gpu: choose fp32 or w8a16, or --device cpu"),
    ],
)
def test_says_where_openvino_cannot_run(name: str, precision: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest.importorskip("openvino"), "Core", _Core)

    with pytest.raises(InputError, match=f"^{line}$"):
        open_engine(small_model("depth"), engine="openvino", precision=precision, device=name)


class _Session:
    """What ONNX Runtime begins on a GPU, with or without CUDA's libraries."""

    has_libraries = True

    def __init__(self, path: Path, settings: object, providers: list[tuple[str, dict[str, int]]]) -> None:
        ((self.name, self.options),) = providers

    def get_providers(self) -> list[str]:
        return [*([self.name] if self.has_libraries else []), "CPUExecutionProvider"]


@pytest.fixture
def _cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(runtime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(runtime, "InferenceSession", _Session)
    monkeypatch.setattr(factory, "artifact", lambda what, build, folder: tmp_path)


@pytest.mark.usefixtures("_cuda")
@pytest.mark.parametrize(
    ("name", "provider", "options"),
    [
        (None, "CPUExecutionProvider", {}),
        ("cuda", "CUDAExecutionProvider", {"device_id": 0, "use_tf32": 0}),
        ("cuda:1", "CUDAExecutionProvider", {"device_id": 1, "use_tf32": 0}),
    ],
)
def test_onnx_runs_where_it_is_asked_to(name: str | None, provider: str, options: dict[str, int]) -> None:
    parts = open_engine(small_model("depth"), engine="onnx", device=name).parts

    assert {(each.name, str(each.options)) for each in parts._sessions.values()} == {(provider, str(options))}


@pytest.mark.usefixtures("_cuda")
def test_onnx_does_not_go_on_by_the_cpu_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Session, "has_libraries", False)

    with pytest.raises(InputError, match=r"^ONNX Runtime cannot use CUDA, perhaps because its libraries are missing"):
        open_engine(small_model("depth"), engine="onnx", device="cuda")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("gpu", "engine onnx has no device 'gpu'; expected cpu, cuda, or a device such as cuda:1"),
        ("cuda:x", "engine onnx has no device 'cuda:x'; expected cpu, cuda, or a device such as cuda:1"),
        (
            "cuda",
            "this ONNX Runtime supports only the CPU: install onnxruntime-gpu instead, or pass --device cpu",
        ),
    ],
)
def test_says_where_onnx_cannot_run(name: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(runtime, "get_available_providers", lambda: ["CPUExecutionProvider"])

    with pytest.raises(InputError, match=f"^{line}$"):
        open_engine(small_model("depth"), engine="onnx", device=name)


def test_strips_are_the_engines_too() -> None:
    model, images = small_model("depth"), smooth_images(1, 64, 64)
    fast = open_engine(model, engine="eager")
    whole = fast(images)

    model.latent_encoder.rows = 8

    assert 0 < (fast(images) - whole).abs().max() < 1e-5 * whole.abs().max()


@pytest.mark.slow
def test_captions_reach_the_engine() -> None:
    from dataclasses import replace

    config = small_model("depth").config
    prompts = replace(config.prompts, kind="caption", count=5)
    model = metaprompts.MetaPromptModel(replace(config, prompts=prompts)).eval()
    images, context = smooth_images(2, 64, 64), torch.randn(2, 5, 64)
    with torch.no_grad():
        plain = model(images, context)

    found = open_engine(model, engine="eager")(images, context)
    rounded = open_engine(copy.deepcopy(model).bfloat16(), engine="eager", precision="bf16")(images, context)

    assert (found - plain).abs().max() < 1e-5 * plain.abs().max()
    assert 0 < (rounded / plain - 1).abs().mean() < 2e-2


@pytest.mark.parametrize(
    ("images_expected", "has_openvino", "is_kept", "engine", "why"),
    [
        (None, True, False, "openvino", "installed, and the fastest on a CPU"),
        (1, True, True, "openvino", "installed, and the model is converted already"),
        (1, True, False, "eager", "converting to OpenVINO takes longer than predicting 1 image"),
        (None, False, False, "eager", "OpenVINO is not installed"),
    ],
)
def test_auto_takes_what_is_worth_it(
    monkeypatch: pytest.MonkeyPatch,
    images_expected: int | None,
    has_openvino: bool,
    is_kept: bool,
    engine: str,
    why: str,
) -> None:
    monkeypatch.setattr(factory, "installed", lambda name: has_openvino)
    monkeypatch.setattr(factory, "has_any", lambda cache: True)
    monkeypatch.setattr(factory, "is_kept", lambda what, cache: is_kept)
    for name in ("eager", "openvino"):
        monkeypatch.setitem(factory._PARTS, name, lambda *what: (None, ""))
    monkeypatch.setattr(factory, "check_engine", lambda *what: None)

    fast = open_engine(small_model("depth"), images=images_expected)

    assert (fast.engine, why in fast.why) == (engine, True)


@pytest.mark.parametrize(
    ("device", "has_triton", "images", "engine", "why"),
    [
        ("mps", False, None, "eager", "on mps, compiling requires CUDA and Triton"),
        ("cuda", False, None, "eager", "on cuda, compiling requires CUDA and Triton"),
        ("cuda", True, None, "compile", "many images on a GPU, worth compiling for"),
        ("cuda", True, 3, "eager", "on cuda, too few (3 images) to make compiling worthwhile"),
    ],
)
def test_auto_says_why_it_does_not_compile(
    monkeypatch: pytest.MonkeyPatch, device: str, has_triton: bool, images: int | None, engine: str, why: str
) -> None:
    """For any number of images on mps, and without Triton, auto said: too few (many images)."""
    monkeypatch.setattr(factory, "find_spec", lambda name: object() if has_triton else None)
    order = SimpleNamespace(model=SimpleNamespace(device=torch.device(device)), precision="fp32")

    assert factory._choose(order, images, bounded=False) == (engine, why)


@pytest.mark.parametrize(
    ("engine", "precision", "line"),
    [
        ("eager", "w8a16", "engine eager supports fp32, bf16 and fp16, not w8a16: choose openvino for that"),
        ("onnx", "bf16", "engine onnx supports fp32, not bf16: choose eager or compile or openvino for that"),
        ("tensorrt", "fp32", "engine is 'tensorrt'; expected auto, eager, compile, openvino, onnx"),
    ],
)
def test_says_what_an_engine_cannot_do(engine: str, precision: str, line: str) -> None:
    with pytest.raises(InputError, match=f"^{line}$"):
        open_engine(small_model("depth"), engine=engine, precision=precision)


def test_says_how_to_install_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "find_spec", lambda name: None)

    with pytest.raises(InputError, match=r"openvino is not installed: pip install 'metaprompts\[openvino\]'"):
        open_engine(small_model("depth"), engine="openvino")


def test_a_failed_conversion_does_not_silence_warnings() -> None:
    """OpenVINO left the root logger at ERROR, so every later warning was lost."""
    pytest.importorskip("openvino")

    class Failing(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no")

    level = logging.getLogger().level
    with pytest.raises(Exception, match="no"):
        converted_by_openvino(Failing(), torch.zeros(1))
    assert logging.getLogger().level == level
