"""Exported files give what the model gives, and need no metaprompts."""

import ast
import json
import re
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import metaprompts
from metaprompts.cli import main
from metaprompts.data.transforms.geometric import resized
from metaprompts.engines.export import export as export_run
from metaprompts.engines.export import export_model, formats
from metaprompts.engines.export.formats import FORMATS
from metaprompts.engines.export.full_model import WholeModel, description
from metaprompts.engines.factory import installed
from metaprompts.engines.openvino import build_openvino
from metaprompts.engines.optimized import PARTS, OptimizedModel
from metaprompts.errors import InputError
from metaprompts.models.model import MetaPromptModel
from metaprompts.synthetic import generate_scene
from metaprompts.tasks import TASKS, Depth
from metaprompts.tasks.preprocess import view_size
from metaprompts.utils.files import CACHE_VARIABLE
from slow import slow_except
from small import small_model, smooth_images, tiny_backbone

# One task a format: together every task and every format.
PAIRS = [("torch", "segmentation"), ("onnx", "depth"), ("openvino", "pose")]
# Files of weights beside the model files.
_WEIGHT_SUFFIXES = {"onnx": ".onnx.data", "openvino": ".bin"}
RESULTS = {"segmentation": "labels.png", "depth": "depth_mm.png", "pose": "people.json"}
_ALONE = """
import sys, runpy
sys.modules["metaprompts"] = None
example = sys.argv.pop(1)
runpy.run_path(example, run_name="__main__")
"""


@pytest.mark.full
@pytest.mark.parametrize(("kind", "task"), PAIRS)
def test_the_file_is_the_model(kind: str, task: str, tmp_path: Path) -> None:
    """By the command, with its report, its description and its example."""
    small_model(task).save(tmp_path / "model")
    image = tmp_path / "scene.png"
    Image.fromarray(generate_scene(77, 96, 128).image).save(image)

    words = ["export", str(tmp_path / "model"), "--format", kind, "--out", str(tmp_path / "out")]
    assert main([*words, "--images", str(image)]) == 0

    report, facts = (json.loads((tmp_path / f"out/{name}.json").read_text()) for name in ("parity", "model"))
    assert report["images"] == 1
    # Of the largest value: what these weights, which learned nothing, say hardly varies.
    assert report["max_difference"] < 1e-5 * report["output_max"]
    assert report["max_difference_in_a_batch"] < 1e-5 * report["output_max"]
    assert report["mean_difference"] < 1e-4 * report["output_std"]
    assert (facts["format"], facts["task"], facts["input"]["shape"]) == (kind, task, ["batch", 3, 64, 64])
    assert {*facts["files"], "model.json", "parity.json", "predict.py", "processing.py"} == {
        path.name for path in (tmp_path / "out").iterdir()
    }
    subprocess.run([sys.executable, "-c", _ALONE, "out/predict.py", str(image)], check=True, cwd=tmp_path)
    assert (tmp_path / RESULTS[task]).is_file()


@pytest.mark.full
@pytest.mark.parametrize(("kind", "task"), [("onnx", "depth"), ("openvino", "pose")])
def test_the_file_in_8_bits_is_near_the_model(
    kind: str, task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one step: on the calibration images, by about the error that quantization.json states."""
    if missing := [name for name in (kind, *["nncf"] * (kind == "openvino")) if not installed(name)]:
        pytest.skip(f"{missing} not installed")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    model = small_model(task, tiny_backbone())
    model.save(tmp_path / "model")
    photos, scenes = tmp_path / "photos", [generate_scene(seed, 64, 64).image for seed in (77, 78)]
    photos.mkdir()
    for number, scene in enumerate(scenes):
        Image.fromarray(scene).save(photos / f"{number}.png")

    words = ["export", str(tmp_path / "model"), "--format", kind, "--out", str(tmp_path / "out"), "--steps", "1"]
    assert main([*words, "--precision", "w8a8", "--calibration", str(photos)]) == 0

    facts, cost = (json.loads((tmp_path / f"out/{name}.json").read_text()) for name in ("model", "quantization"))
    assert (facts["precision"], cost["calibration"], cost["samples"]) == ("w8a8", f"2 images of {photos}", 2)
    assert f"calibrated on 2 images of {photos}; " in capsys.readouterr().out
    inputs = np.stack(scenes).astype(np.float32).transpose(0, 3, 1, 2) / 255
    expected = OptimizedModel(model, 1)(torch.from_numpy(inputs)).numpy()
    found = FORMATS[kind].open(tmp_path / "out" / facts["file"])(inputs)
    assert 1e-3 < np.square(found - expected).mean() ** 0.5 / expected.std() < 2 * cost["error"]
    subprocess.run([sys.executable, "-c", _ALONE, "out/predict.py", str(photos / "0.png")], check=True, cwd=tmp_path)
    assert (tmp_path / RESULTS[task]).is_file()


@pytest.mark.full
@pytest.mark.parametrize(("task", "every_step"), [("segmentation", False), ("depth", True)])
def test_connected_networks_are_the_model(task: str, every_step: bool, tmp_path: Path) -> None:
    """Of the parts in fp32, where nothing is rounded: the steps, their prompts and the order of the outputs."""
    if not installed("openvino"):
        pytest.skip("openvino is not installed")
    import openvino

    model, images = small_model(task, tiny_backbone()), smooth_images(2, 64, 64)
    whole = WholeModel(OptimizedModel(model), every_step=every_step).eval()
    build_openvino(whole.prepared, tmp_path, "fp32")

    formats.write_connected(tmp_path, whole, (64, 64), tmp_path / "model.xml")

    network = openvino.compile_model(tmp_path / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert [each.any_name for each in network.outputs] == whole.output_names
    with torch.no_grad():
        expected = whole(images) if every_step else (whole(images),)
    for found, raw in zip(network(images.numpy()).values(), expected, strict=True):
        np.testing.assert_allclose(found, raw.numpy(), atol=1e-3 * float(raw.std()))
    # Weights of the K steps are stored once.
    parts = sum((tmp_path / f"{part}.bin").stat().st_size for part in PARTS)
    assert (tmp_path / "model.bin").stat().st_size < 1.2 * parts


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["torch", "--precision", "w8a8"], "format torch supports fp32, not w8a8: choose onnx or openvino"),
        (
            ["onnx", "--calibration", "."],
            "--calibration requires --precision w8a8: add --precision w8a8, or omit --calibration",
        ),
        (["onnx", "--precision", "w8a8", "--calibration", "missing"], "--calibration is missing; expected a folder"),
    ],
)
def test_options_of_8_bits_are_checked_first(
    words: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("metaprompts.models.loading.load", None)

    assert main(["export", "micro-depth", "--out", str(tmp_path / "out"), "--format", *words]) == 2

    assert line in capsys.readouterr().err


@pytest.mark.parametrize("task", RESULTS)
def test_the_description_fits_the_output(task: str) -> None:
    """The shape that model.json tells is that of the raw output."""
    model = small_model(task)

    facts = description(model, (64, 64))

    with torch.no_grad():
        raw = model(torch.zeros(2, 3, 64, 64))
    assert facts["input"]["shape"] == ["batch", 3, 64, 64]
    assert facts["output"]["shape"] == ["batch", *raw.shape[1:]]


@pytest.mark.parametrize("kind", FORMATS)
def test_the_network_of_the_example_lies_next_to_it(kind: str) -> None:
    assert "HERE / facts['file']" in export_run._example(FORMATS[kind], Depth)["predict.py"]


@pytest.mark.parametrize("kind", FORMATS)
def test_the_example_is_short_and_needs_the_runtime_alone(kind: str) -> None:
    text = export_run._example(FORMATS[kind], Depth)["predict.py"]
    imports = [each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.Import | ast.ImportFrom)]

    assert {name.name for each in imports if isinstance(each, ast.Import) for name in each.names} == {
        *("json", "sys", "numpy", FORMATS[kind].runtime)
    }
    assert {each.module for each in imports if isinstance(each, ast.ImportFrom)} == {"pathlib", "PIL", "processing"}
    assert len(text.splitlines()) <= 25


@pytest.mark.parametrize(
    ("task", "network", "words"),
    [
        ("segmentation", "np.zeros((3, 64, 128), np.float32)", []),
        ("depth", "np.ones((1, 64, 128), np.float32)", []),
        ("pose", "np.eye(16, dtype=np.float32)[None].repeat(17, 0)", ["1,2,30,20", "4,5,6,7"]),
    ],
)
def test_the_example_runs_where_metaprompts_is_not(task: str, network: str, words: list[str], tmp_path: Path) -> None:
    """From another folder than its own it ended with: No such file or directory: 'model.json'."""
    model = metaprompts.load(f"micro-{task}", "cpu")
    stub = replace(FORMATS["onnx"], example={"imports": "import math", "load": "", "run": network})
    out = tmp_path / "of the model"
    out.mkdir()
    for name, text in export_run._example(stub, TASKS[task]).items():
        (out / name).write_text(text)
    (out / "model.json").write_text(json.dumps(description(model, (64, 128))))
    Image.new("RGB", (70, 50)).save(tmp_path / "image.png")

    command = [sys.executable, "-c", _ALONE, "of the model/predict.py", "image.png", *words]
    done = subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True)

    assert done.stdout == f"written: {RESULTS[task]}\n"
    if task == "pose":
        people = json.loads((tmp_path / RESULTS[task]).read_text())
        assert [person.keys() == set(model.task.joints) for person in people] == [True, True]
    else:
        assert Image.open(tmp_path / RESULTS[task]).size == (70, 50)


def test_the_example_clips_what_millimeters_cannot_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Depths beyond 65.535 m do not come out as near ones."""
    monkeypatch.chdir(tmp_path)
    image, far = np.zeros((4, 4, 3), np.uint8), np.full((1, 4, 4), 70, np.float32)

    Depth.example([far], image, [], {"task": "depth"})

    assert (np.asarray(Image.open("depth_mm.png")) == 65535).all()


def _by_the_example(
    model: MetaPromptModel, image: NDArray[np.uint8], size: tuple[int, int], boxes: list[list[float]]
) -> list[NDArray[np.float32]]:
    """What predict.py does, with the model in place of the network; returns the network's inputs."""
    processing: dict[str, object] = {}
    exec(model.task.example_code(), processing)
    facts = description(model, size)
    with torch.no_grad():
        inputs = processing["network_inputs"](image, boxes, facts)
        outputs = [model(torch.from_numpy(pixels)).numpy()[0] for pixels in inputs]
    processing["save_result"](outputs, image, boxes, facts)
    return inputs


@pytest.mark.parametrize(
    ("task", "height_width"),
    slow_except(
        product(["segmentation", "depth"], [(301, 452), (97, 143)]), ("segmentation", (301, 452)), ("depth", (97, 143))
    ),
)
def test_the_example_resizes_as_the_model_does(
    task: str, height_width: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example smoothed images another way, and its result came from the nearest pixel, not between pixels."""
    monkeypatch.chdir(tmp_path)
    scene, model = generate_scene(79, *height_width).image, metaprompts.load(f"micro-{task}", "cpu")
    expected = model.predict(scene)

    size = view_size(*height_width, model.config.working_size)
    (pixels,) = _by_the_example(model, scene, size, [])

    # OpenCV's interpolation of 8-bit images has 11-bit weights, and truncates twice: a level apart at most.
    assert abs(pixels[0].transpose(1, 2, 0) * 255 - resized(scene, size)).max() < 1.01
    found = np.asarray(Image.open(RESULTS[task]))
    if task == "segmentation":
        assert (found == expected.labels).mean() >= 0.999
    else:
        with torch.no_grad():
            (raw,) = model(torch.from_numpy(pixels))
        expected = model.task.assemble(scene, [(None, raw)])
        # 16-bit millimeters end at 65.535 m, and the sky is farther.
        assert abs(found / 1000 / expected.depth_m.clip(max=65.535) - 1).mean() < 1e-3


def test_the_example_crops_people_as_the_model_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example squashed the whole image, and scaled heatmaps by W / w where the model counts between centers."""
    monkeypatch.chdir(tmp_path)
    scene, model = generate_scene(80, 240, 330).image, metaprompts.load("micro-pose", "cpu")
    boxes = [[0.0, 0, 60, 150], [250, 90, 80, 150], [100, 40, 160, 90]]

    for given in ([], boxes):
        _by_the_example(model, scene, (model.task.crop_height, model.task.crop_width), given)

        found = json.loads(Path("people.json").read_text())
        for joints, expected in zip(found, model.predict(scene, given or None).people, strict=True):
            apart = abs(np.array(list(joints.values()))[:, :2] - expected.keypoints)
            assert apart.max() < 0.1


@pytest.mark.full
def test_the_example_predicts_at_the_images_size(tmp_path: Path) -> None:
    """Depth in millimeters, near what the model says of the same image."""
    model = small_model("depth")
    scene = generate_scene(78, 64, 64).image
    Image.fromarray(scene).save(tmp_path / "scene.png")
    export_model(model, tmp_path / "out", kind="openvino", images=[scene])

    subprocess.run([sys.executable, "-c", _ALONE, "predict.py", "../scene.png"], check=True, cwd=tmp_path / "out")

    found = np.asarray(Image.open(tmp_path / "out/depth_mm.png"))
    np.testing.assert_allclose(found, model.predict(scene).depth_m * 1000, atol=2)


def test_nothing_is_left_of_an_export_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*what: object) -> None:
        raise InputError("no")

    monkeypatch.setattr(export_run, "_parity", fail)
    monkeypatch.setitem(FORMATS, "openvino", replace(FORMATS["openvino"], write=lambda model, size, path: path.touch()))

    with pytest.raises(InputError, match=r"^no$"):
        export_model(small_model("depth"), tmp_path / "out", kind="openvino", images=[])

    assert list(tmp_path.iterdir()) == []


def _without_contents(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Let an export write model files that hold nothing."""

    def write(model: object, size: object, path: Path) -> None:
        path.touch()
        if kind in _WEIGHT_SUFFIXES:
            path.with_suffix(_WEIGHT_SUFFIXES[kind]).touch()

    parity = {"images": 1, "max_difference": 1e-6, "mean_difference": 1e-7, "output_std": 1.0}
    monkeypatch.setattr(export_run, "_parity", lambda *what: parity)
    monkeypatch.setitem(FORMATS, kind, replace(FORMATS[kind], write=write))
    monkeypatch.setattr(export_run, "NEEDS", {})


def _export_quickly(monkeypatch: pytest.MonkeyPatch, out: Path, kind: str) -> None:
    _without_contents(monkeypatch, kind)
    export_model(small_model("depth"), out, kind=kind, images=[])


@pytest.mark.parametrize("kind", slow_except(FORMATS, "onnx"))
def test_an_export_tells_its_stages_and_all_its_files(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was silent for minutes, and named four files, the model not among them."""
    _without_contents(monkeypatch, kind)
    monkeypatch.setattr("metaprompts.models.loading.load", lambda name, device: small_model("depth"))

    assert main(["export", "micro-depth", "--format", kind, "--out", str(tmp_path / "out")]) == 0

    printed = capsys.readouterr()
    for path in (tmp_path / "out").iterdir():
        size = path.stat().st_size
        shown = f"{size} B" if size < 1024 else f"{size / 1024:.1f} KiB"
        assert re.search(rf"^{re.escape(str(path))} +{re.escape(shown)}$", printed.out, re.MULTILINE)
    assert printed.out.startswith(str(tmp_path / "out" / "model."))
    assert "on 1 image, the output depth_m differs from the model's by at most" in printed.out
    assert "; relative to its standard deviation of" in printed.out, "3.2e-04 alone says nothing"
    stages = [line for line in printed.err.splitlines() if "/4 " in line]
    assert [line[:4] for line in stages] == ["1/4 ", "2/4 ", "3/4 ", "4/4 "]
    assert f"converting to {kind}" in stages[1]


def test_another_export_takes_the_place_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of both formats lay side by side, one of them mentioned nowhere. What is not of an export stays."""
    out = tmp_path / "out"
    _export_quickly(monkeypatch, out, "openvino")
    for name in ("model.onnx", "notes.txt"):
        (out / name).touch()

    _export_quickly(monkeypatch, out, "torch")

    common = {"model.json", "parity.json", "predict.py", "processing.py"}
    assert {path.name for path in out.iterdir()} == {"model.pt2", "model.onnx", "notes.txt", *common}


@pytest.mark.parametrize("listed", ['["../precious"]', '["precious"]', "[3]", "3"])
def test_nothing_else_is_removed(listed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    precious = [tmp_path / "precious", out / "precious"]
    for path in precious:
        path.touch()
    (out / "model.json").write_text(f'{{"files": {listed}}}')

    _export_quickly(monkeypatch, out, "torch")

    assert all(path.exists() for path in precious)


def test_an_export_in_fp32_leaves_no_report_of_8_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "quantization.json").touch()
    (out / "model.json").write_text('{"files": ["model.onnx", "quantization.json"]}')

    _export_quickly(monkeypatch, out, "torch")

    assert not (out / "quantization.json").exists()


def test_the_folder_may_be_the_one_where_the_user_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path without a name has no neighbor to write to first."""
    monkeypatch.chdir(tmp_path)

    _export_quickly(monkeypatch, Path(), "torch")

    assert (tmp_path / "model.pt2").is_file()


def test_a_file_in_the_place_of_the_folder_is_reported_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was after minutes of converting."""
    monkeypatch.setattr("metaprompts.models.loading.load", None)
    (tmp_path / "file").touch()

    assert main(["export", "micro-depth", "--format", "torch", "--out", str(tmp_path / "file/out")]) == 2

    line = f"error: cannot write to {tmp_path}/file/out: {tmp_path}/file is not a folder\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("task", "size", "line"),
    [
        ("depth", (100, 128), "--size is 100 128; expected multiples of 64"),
        ("pose", (128, 128), r"--size is 128 128, but the model's crops of people are 64 64: omit --size"),
        ("segmentation", None, "the model does not record its training size: pass --size HEIGHT WIDTH"),
    ],
)
def test_a_size_that_does_not_fit_is_refused(
    task: str, size: tuple[int, int] | None, line: str, tmp_path: Path
) -> None:
    model = small_model(task)
    model.config = replace(model.config, working_size=None)

    with pytest.raises(InputError, match=f"^{line}$"):
        export_model(model, tmp_path / "out", kind="torch", size=size, images=[])


def test_a_second_encoder_is_not_exported_in_8_bits(tmp_path: Path) -> None:
    """Its layers read the type of weights, and its maps join the pyramid between the networks of the parts."""
    model = small_model("depth")
    model.second_encoder = torch.nn.Identity()

    with pytest.raises(InputError, match="a second encoder cannot be exported in w8a8: choose precision fp32"):
        export_model(model, tmp_path / "out", kind="onnx", precision="w8a8", images=[])


def test_a_missing_runtime_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_run, "find_spec", lambda name: None)

    with pytest.raises(InputError, match=r"^format onnx needs onnx, onnxscript, onnxruntime: pip install "):
        export_model(small_model("depth"), tmp_path / "out", kind="onnx", images=[])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_does_not_abort_the_process():
    """PyTorch's writer called std::terminate where the disk was full: C++ frames, exit code 134, files left behind."""
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
    with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123
        written = formats._Patient(full)
        torch.export.save(program, written)
        with pytest.raises(OSError, match="No space left on device"):
            written.check()
