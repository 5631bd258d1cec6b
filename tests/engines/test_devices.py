"""Models predict on the GPU what they predict on the CPU, and what the released code predicted there."""

from collections.abc import Iterator

import pytest
import torch

import metaprompts
from devices import DEVICES, on_gpu
from golden import golden_state, layout_of, needs_golden, preset_of
from metaprompts import import_released
from metaprompts.engines.factory import open_engine
from metaprompts.errors import InputError
from metaprompts.synthetic import generate_scene
from metaprompts.tasks import Depth
from small import small_model, smooth_images, tiny_backbone
from tapping import golden_names, read_golden

TASKS = ("segmentation", "depth", "pose")
# Mean difference, in standard deviations of the output in fp32 on the CPU.
TOLERANCES = {"fp32": 1e-4, "bf16": 0.05, "fp16": 0.01}


@pytest.fixture(autouse=True)
def _exact_float32() -> Iterator[None]:
    """By default cuDNN rounds the inputs of convolutions to TF32, with 10 bits."""
    former = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = former


@needs_golden
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", golden_names("tiny"))
def test_the_released_numbers_in_double_precision(name: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = read_golden(name)
    task = golden.facts["task"]
    if device == "cpu" and name != golden_names("tiny")[0]:
        pytest.skip("tests/test_golden.py compares all of them on the CPU")
    model = import_released(golden_state(f"{layout_of(task)}_tiny"), preset_of(task)).to(device, torch.float64)
    # The released code resized in single precision.
    resize = Depth.resize_for_backbone
    monkeypatch.setattr(
        Depth, "resize_for_backbone", lambda task, images: resize(task, images.float()).to(images.dtype)
    )
    with torch.no_grad():
        raw, _ = model.training_outputs(golden.images.to(device, torch.float64))
    stats = golden.facts["stats"]["pred"]
    places = torch.from_numpy(golden.arrays["idx/pred"].astype("int64")) if "idx/pred" in golden.arrays else None
    flat = raw.double().cpu().flatten()
    found, expected = (flat, golden.arrays["pred"]) if places is None else (flat[places], golden.arrays["val/pred"])
    assert list(raw.shape) == stats["shape"]
    assert (found - torch.from_numpy(expected).double().flatten()).abs().max() < 1e-4 * stats["std"]


def _case(task: str, device: str) -> tuple[metaprompts.MetaPromptModel, torch.Tensor]:
    """A model on the CPU, and images: an embedded model and scenes for a GPU, a tiny model and smooth images else."""
    if device == "cpu":
        return small_model(task, tiny_backbone()), smooth_images(2, 64, 64)
    model = metaprompts.load(f"micro-{task}", "cpu")
    height, width = model.task.input_size or (128, 192)
    scenes = [generate_scene(seed, height, width).image for seed in (900, 901)]
    return model, torch.stack([torch.from_numpy(scene).permute(2, 0, 1) for scene in scenes]).float() / 255


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("device", "engine", "precision"),
    [
        ("cpu", "plain", "fp32"),
        # Also tested in test_engines.
        pytest.param("cpu", "eager", "fp32", marks=pytest.mark.slow),
        *(
            pytest.param("cuda", engine, precision, marks=on_gpu)
            for engine in ("plain", "eager", "compile")
            for precision in ("fp32", "bf16", "fp16")
            if engine != "plain" or precision == "fp32"
        ),
    ],
)
def test_engines_agree_with_the_plain_path_on_the_cpu(task: str, device: str, engine: str, precision: str) -> None:
    if engine == "compile" and task != "depth":
        pytest.skip("compiling takes a minute, so one task is compiled")
    model, images = _case(task, device)
    with torch.no_grad():
        expected = model(images)
        model.to(device)
        fast = model if engine == "plain" else open_engine(model, engine=engine, precision=precision)
        found = fast(images.to(device))
    assert found.device.type == device
    differences = (found.float().cpu() - expected).abs() / expected.std()
    assert differences.mean() < TOLERANCES[precision]
    if precision == "fp32":
        assert differences.max() < 10 * TOLERANCES[precision]


def test_fp16_is_refused_on_a_cpu() -> None:
    with pytest.raises(InputError, match="precision fp16 requires a GPU, but the model is on cpu: choose fp32 or bf16"):
        open_engine(small_model("depth"), engine="eager", precision="fp16")


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=on_gpu)])
def test_predictions_of_embedded_models_on_scenes(device: str) -> None:
    """With PyTorch's defaults, which round convolutions to TF32."""
    torch.backends.cudnn.allow_tf32 = True
    scene = generate_scene(900, 128, 192).image
    plain, fast = (metaprompts.load("micro-depth", place).predict(scene).depth_m for place in ("cpu", device))
    assert abs(fast / plain - 1).mean() < 1e-3
    plain, fast = (metaprompts.load("micro-segmentation", place).predict(scene).labels for place in ("cpu", device))
    assert (plain == fast).mean() > 0.995
