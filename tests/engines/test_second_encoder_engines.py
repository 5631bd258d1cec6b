"""A second encoder in every engine and every exported file."""

from pathlib import Path

import pytest
import torch

from metaprompts.engines.adaptive_steps import run_until_agreement
from metaprompts.engines.benchmark.parts import PlainParts
from metaprompts.engines.export import export_model
from metaprompts.engines.factory import installed, open_engine
from metaprompts.engines.memory_budget import choose, view_work
from metaprompts.engines.optimized import OptimizedModel, run
from metaprompts.errors import InputError
from metaprompts.modules.backbone.encoder_cache import EncoderCache
from metaprompts.synthetic import generate_scene
from second_encoders import FAMILIES, model_with_second, randomize, second_folder
from slow import slow_except
from small import smooth_images

# Converting takes half a minute each.


def marks_of(engine: str, kind: str) -> list[pytest.MarkDecorator]:
    if engine == "eager":
        return [] if kind in ("dinov2", "convnext") else [pytest.mark.slow]
    return [pytest.mark.slow if (engine, kind) == ("openvino", "dinov2") else pytest.mark.full]


PAIRS = [
    pytest.param(engine, kind, marks=marks_of(engine, kind), id=f"{engine}-{kind}")
    for engine in ("eager", "compile", "openvino", "onnx")
    for kind in FAMILIES
    if engine in ("eager", "compile") or kind != "dinov2_with_registers"
]


def outputs(model: object, views: list[torch.Tensor]) -> list[torch.Tensor]:
    with torch.no_grad():
        return [model(images) for images in views]  # type: ignore[operator]


@pytest.mark.parametrize(("engine", "kind"), PAIRS)
def test_equals_the_plain_path(engine: str, kind: str, tmp_path: Path) -> None:
    """Below 1e-4 of the standard deviation, for two sizes by one converted model."""
    if not installed(engine):
        pytest.skip(f"{engine} is not installed")
    model = model_with_second("segmentation", second_folder(kind))
    views = [smooth_images(1, 64, 64), smooth_images(2, 128, 64)][: 1 if engine == "compile" else 2]
    expected = outputs(model, views)
    fast = open_engine(model, engine=engine, cache=tmp_path)  # type: ignore[arg-type]
    for found, plain in zip(outputs(fast, views), expected, strict=True):
        assert (found - plain).abs().max() < 1e-4 * plain.std()


@pytest.mark.parametrize(("engine", "named"), [("openvino", "OpenVINO"), ("onnx", "ONNX Runtime")])
def test_what_other_runtimes_compute_differently_is_reported(engine: str, named: str) -> None:
    """OpenVINO ignored antialiasing: maps differed by 4 % of their deviation."""
    if not installed(engine):
        pytest.skip(f"{engine} is not installed")
    model = model_with_second("segmentation", second_folder("dinov2_with_registers"))
    with pytest.raises(InputError, match=f"{named} cannot run a second encoder of type dinov2_with_registers"):
        open_engine(model, engine=engine)  # type: ignore[arg-type]
    assert open_engine(model).engine == "eager"


def test_other_projections_are_another_converted_model(tmp_path: Path) -> None:
    """Converted networks are found by the weights, including the second encoder's."""
    from metaprompts.engines.factory import EXACT, _Order

    model = model_with_second("segmentation", second_folder("dinov2"))
    first = _Order(model, "fp32", EXACT, tmp_path, None, None).what("onnx")
    randomize(model)
    assert _Order(model, "fp32", EXACT, tmp_path, None, None).what("onnx") == first
    model.second_encoder.projections[0].bias.data.add_(1)  # type: ignore[union-attr, operator]
    assert _Order(model, "fp32", EXACT, tmp_path, None, None).what("onnx") != first


@pytest.mark.slow
def test_bf16_strips_and_caches(tmp_path: Path) -> None:
    model, images = model_with_second("segmentation", second_folder("dinov3_vit")), smooth_images(2, 64, 128)
    (expected,) = outputs(model, [images])
    model.latent_encoder.cache = EncoderCache()
    model.second_encoder.cache = EncoderCache()  # type: ignore[union-attr]
    fast = open_engine(model, engine="eager")
    model.latent_encoder.rows = 5
    for _ in range(2):
        (found,) = outputs(fast, [images])
        assert (found - expected).abs().max() < 1e-4 * expected.std()
    (coarse,) = outputs(open_engine(model, engine="eager", precision="bf16"), [images])
    assert 0 < (coarse - expected).abs().mean() < 0.1 * expected.std()


def test_two_adapters_do_not_share_projected_maps() -> None:
    """Their outputs of the same image differ, although they share the latents."""
    images, cache = smooth_images(1, 64, 64), EncoderCache()
    models = [model_with_second("segmentation", second_folder("dinov2")) for _ in range(2)]
    models[1].second_encoder.projections[0].weight.data.mul_(-1)  # type: ignore[union-attr, operator]
    expected = [outputs(model, [images])[0] for model in models]
    for model in models:
        model.latent_encoder.cache = cache
    for model, plain in zip(models, expected, strict=True):
        (found,) = outputs(open_engine(model, engine="eager"), [images])
        assert (found - plain).abs().max() < 1e-4 * plain.std()


def test_steps_that_adapt_to_each_image_use_its_own_maps() -> None:
    model, images = model_with_second("segmentation", second_folder("convnext")), smooth_images(3, 64, 64)
    prepared = OptimizedModel(model)
    conditions = prepared.conditions(3, None)
    with torch.no_grad():
        found = run_until_agreement(prepared, model.task, images, conditions, 0.0)
        assert found.steps.tolist() == [2, 2, 2]
        torch.testing.assert_close(found.raw, model(images), rtol=1e-4, atol=1e-4)


def test_the_plain_parts_of_benchmarks_predict_alike() -> None:
    model, images = model_with_second("segmentation", second_folder("convnext")), smooth_images(1, 64, 64)
    parts = PlainParts(model, 2)
    with torch.no_grad():
        torch.testing.assert_close(run(parts, model.task, images, parts.conditions(1, None)), model(images))


@pytest.mark.parametrize("kind", slow_except(["dinov2", "dinov3_vit", "convnext"], "convnext"))
@pytest.mark.slow
def test_the_memory_of_a_prediction_counts_it(kind: str) -> None:
    model = model_with_second("segmentation", second_folder(kind))
    images = smooth_images(1, 64, 64)
    before = outputs(model, [images])[0]
    work = view_work(model, (64, 64))
    second, model.second_encoder = model.second_encoder, None
    assert work.rest >= view_work(model, (64, 64)).rest
    model.second_encoder = second
    assert choose(model, (64, 64), limit=10**12).batch == 1
    # Fake tensors leave nothing behind.
    assert torch.equal(outputs(model, [images])[0], before)


EXPORTS = [
    pytest.param(kind, family, marks=pytest.mark.slow if (kind, family) == ("torch", "dinov2") else pytest.mark.full)
    for kind in ("torch", "onnx", "openvino")
    for family in FAMILIES
    if (kind, family) != ("openvino", "dinov2_with_registers")
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "family"), EXPORTS)
def test_an_exported_file_is_the_model(kind: str, family: str, tmp_path: Path) -> None:
    model = model_with_second("segmentation", second_folder(family))
    model.latent_encoder.precise = True
    images = [generate_scene(seed, 64, 64).image for seed in (1, 2)]
    report = export_model(model, tmp_path, kind=kind, images=images).parity
    assert report["max_difference_of_std"] < 1e-4
    assert report["max_difference_in_a_batch"] < 1e-4 * report["output_std"]


def test_files_for_openvino_are_refused_alike(tmp_path: Path) -> None:
    model = model_with_second("segmentation", second_folder("dinov2_with_registers"))
    with pytest.raises(InputError, match="cannot run a second encoder of type dinov2_with_registers"):
        export_model(model, tmp_path, kind="openvino", images=[generate_scene(1, 64, 64).image])
