"""Refinement steps as a dial: fewer steps, or as many as each image needs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import metaprompts
from metaprompts.cli import main
from metaprompts.engines.calibrate_steps import StepCalibration, _largest_good
from metaprompts.engines.export import export_model
from metaprompts.engines.factory import Approximation, open_engine
from metaprompts.engines.optimized import OptimizedModel
from metaprompts.errors import InputError
from metaprompts.tasks import Depth, Pose, Segmentation
from slow import slow_except
from small import small_model, smooth_images, tiny_backbone

TASKS = ("segmentation", "depth", "pose")


def supervised_model(task: str, tolerance: float | None) -> metaprompts.MetaPromptModel:
    model = small_model(task, tiny_backbone())
    model.config = replace(model.config, supervised_steps=True, step_tolerance=tolerance)
    return model


def images_of(task: str) -> torch.Tensor:
    return smooth_images(2, 64, 64) * torch.tensor([1.0, 0.2])[:, None, None, None]


@pytest.mark.parametrize("task", slow_except(TASKS, "segmentation"))
def test_a_tolerance_of_0_takes_all_steps_and_of_1_takes_two(task: str) -> None:
    images = images_of(task)
    for tolerance, steps in ((0.0, 3), (1.0, 2)):
        model = supervised_model(task, tolerance)
        fast = open_engine(model, engine="eager", approximation=Approximation(steps="auto"))
        found = fast.adaptive_output(images)
        expected = OptimizedModel(model, steps)(images)
        if steps == 2:
            expected = (expected + OptimizedModel(model, 1)(images)) / 2
        assert torch.allclose(found.raw, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
        assert found.steps.tolist() == [steps, steps]
        assert found.agreement.min() >= 0
        assert found.agreement.max() <= 1
        assert dict(fast.step_counts) == {steps: 2}


@pytest.mark.parametrize("task", slow_except(TASKS, "depth"))
def test_each_image_of_a_batch_stops_by_itself(task: str) -> None:
    model, images = supervised_model(task, 1.0), images_of(task)
    one, two, three = (OptimizedModel(model, steps)(images) for steps in (1, 2, 3))
    _, disagreements = model.task.disagreement(one, two)
    first, second = disagreements.tolist()
    assert first != second
    fast = open_engine(model, engine="eager", approximation=Approximation(steps="auto"))
    fast.tolerance = (first + second) / 2
    found = fast.adaptive_output(images)
    assert found.steps.tolist() == ([2, 3] if first < second else [3, 2])
    for place, (steps, raw) in enumerate(zip(found.steps.tolist(), found.raw, strict=True)):
        expected = {2: (one + two) / 2, 3: three}[steps][place]
        assert torch.allclose(raw, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_each_supervised_step_is_decoded_with_its_own_prompts() -> None:
    """As it was trained; a model whose last step alone was trained decodes with the prompts of the last step."""
    model = small_model("segmentation", tiny_backbone())
    torch.manual_seed(1)
    model.prompts = type(model.prompts)(4, model.unet.prompt_channels, steps=3, per_step=True, adapter=False).eval()
    images = smooth_images(1, 64, 64)
    with torch.no_grad():
        by_step = [model.head(maps, (64, 64)) for maps in model.prompt_maps_by_step(images)]
        last_prompts = OptimizedModel(model, 1)(images)
        model.config = replace(model.config, supervised_steps=True)
        own_prompts = OptimizedModel(model, 1)(images)
    assert torch.allclose(own_prompts, by_step[0], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(last_prompts, by_step[0], rtol=1e-3, atol=1e-3)


def test_a_step_that_was_not_trained_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """predict --steps 1 gave mIoU 0.42 for 0.62 without a word."""
    open_engine(small_model("depth", tiny_backbone()), engine="eager", approximation=Approximation(steps=1))
    assert "only the last of this model's 3 refinement steps was trained" in caplog.text
    caplog.clear()
    open_engine(supervised_model("depth", None), engine="eager", approximation=Approximation(steps=1))
    assert "trained" not in caplog.text


@pytest.mark.parametrize(
    ("steps", "supervised", "message"),
    [
        (1, True, "steps auto needs several refinement steps, but the model has one"),
        (3, False, "only the last step of this one was: omit steps, or give a number from 1 to 3"),
        (3, True, "run metaprompts calibrate MODEL --steps --data.root DIR first"),
    ],
)
def test_models_without_a_dial(steps: int, supervised: bool, message: str) -> None:
    model = small_model("depth", tiny_backbone())
    refinement = replace(model.config.refinement, steps=steps)
    model.config = replace(model.config, refinement=refinement, supervised_steps=supervised)
    with pytest.raises(InputError, match=message):
        open_engine(model, engine="eager", approximation=Approximation(steps="auto"))


def test_disagreements_by_hand() -> None:
    depth = Depth(max_depth_m=10.0)
    per_pixel, per_image = depth.disagreement(torch.tensor([[[[2.0, 4.0]]]]), torch.tensor([[[[1.0, 4.0]]]]))
    assert per_pixel.tolist() == [[[0.5, 0.0]]]
    assert per_image.tolist() == [0.25]
    classes = Segmentation(classes=("a", "b"))
    certain = torch.tensor([100.0, -100.0])[None, :, None, None]
    per_pixel, per_image = classes.disagreement(certain, -certain)
    assert (per_pixel.item(), per_image.item()) == pytest.approx((1, 1))
    heatmaps = torch.zeros(1, 2, 2, 2)
    heatmaps[0, 0, 1, 1] = 0.5
    per_pixel, per_image = Pose().disagreement(heatmaps, torch.zeros(1, 2, 2, 2))
    assert per_pixel.tolist() == [[[0, 0], [0, 0.5]]]
    assert per_image.tolist() == [0.25]


@pytest.mark.parametrize("sign", [1, -1])
def test_the_tolerance_is_searched_between_those_tried(sign: int) -> None:
    """Only ten tolerances were tried, so most images took a step more than needed."""

    def attempt(tolerance: float) -> StepCalibration:
        loss = sign * (0.02 if tolerance > 0.074 else 0.001)
        return StepCalibration(tolerance=tolerance, metric="mIoU", all_steps=1, adaptive=1 - loss, step_counts={})

    found = _largest_good(attempt, sign)

    assert found is not None
    assert 0.072 < found.tolerance <= 0.074


def test_from_training_to_predictions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    for number in range(4):
        image = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        Image.fromarray(generator.integers(500, 9000, (64, 64)).astype(np.uint16)).save(tmp_path / f"{number}_d.png")
    (tmp_path / "list.txt").write_text("".join(f"{number}.png {number}_d.png\n" for number in range(4)))
    data = ["--data.root", str(tmp_path), "--data.train", "list.txt", "--data.val", "list.txt"]
    data += ["--data.image_size", "64,64", "--data.num_workers", "0"]
    sizes = ["--augment.crop_size", "64,64", "--backbone.source", tiny_backbone(), "--prompts.count", "4"]
    sizes += ["--task.filters", "4", "--task.width", "8", "--training.batch_size", "2", "--training.steps", "1"]
    steps = ["--refinement.steps", "2", "--training.step_decay", "0.8", "--training.report_to", "none"]
    out, calibrated = tmp_path / "out", tmp_path / "calibrated"
    assert main(["train", "micro_depth", *data, *sizes, *steps, "--training.output_dir", str(out)]) == 0
    assert metaprompts.load(out / "last").config.supervised_steps
    words = ["--steps", "auto", "--raw", "--engine", "eager", "--out", str(tmp_path / "p")]
    assert main(["predict", str(out / "last"), str(tmp_path / "0.png"), *words]) == 2
    assert "run metaprompts calibrate MODEL --steps" in capsys.readouterr().err
    assert main(["calibrate", str(out / "last"), "--steps", *data, "--out", str(calibrated)]) == 0
    assert "with --steps auto (4 images with 2 steps)" in capsys.readouterr().out
    scored = [*data, "--engine", "eager", "--steps", "auto", "--out", str(tmp_path / "e")]
    assert main(["evaluate", str(calibrated), *scored]) == 0
    assert json.loads((tmp_path / "e/evaluation.json").read_text())["steps"].startswith("auto, tolerance ")
    assert main(["predict", str(calibrated), str(tmp_path / "0.png"), *words]) == 0
    assert "refinement steps: 1 with 2" in capsys.readouterr().err
    agreement = np.load(tmp_path / "p/0_agreement.npy")
    assert agreement.shape == (64, 64)
    assert 0 <= agreement.min() <= agreement.max() <= 1


@pytest.mark.parametrize(
    "kind", [pytest.param("torch", marks=pytest.mark.slow), pytest.param("openvino", marks=pytest.mark.full)]
)
def test_an_exported_network_with_an_output_for_each_step(kind: str, tmp_path: Path) -> None:
    model = supervised_model("depth", None)
    scene = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    exported = export_model(model, tmp_path, kind=kind, size=(64, 64), every_step=True, images=[scene])
    described = json.loads((tmp_path / "model.json").read_text())
    assert described["outputs"] == ["output", "step_1", "step_2"]
    assert exported.parity["max_difference_of_std"] < 1e-3
    images = smooth_images(2, 64, 64)
    if kind == "torch":
        with torch.no_grad():
            found = torch.export.load(tmp_path / "model.pt2").module()(images)
    else:
        network = pytest.importorskip("openvino").compile_model(tmp_path / "model.xml", "CPU")
        found = [torch.from_numpy(each) for each in network(images.numpy()).to_tuple()]
    for raw, steps in zip(found, (3, 1, 2), strict=True):
        expected = OptimizedModel(model, steps)(images)
        assert (raw - expected).abs().max() < 1e-3 * expected.std()


def test_every_step_needs_trained_steps(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="several steps that were all trained"):
        export_model(small_model("depth"), tmp_path, kind="torch", size=(64, 64), every_step=True, images=[])
