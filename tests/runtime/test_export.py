"""Exported files give what the model gives, and need no metaprompts."""

import ast
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from metaprompts.cli import main
from metaprompts.data.scenes import generate_scene
from metaprompts.errors import InputError
from metaprompts.runtime.export import export_model
from metaprompts.runtime.export import run as export_run
from metaprompts.runtime.export.formats import FORMATS
from metaprompts.runtime.export.whole import description
from small import small_model

# One task a format: together every task and every format.
PAIRS = [("torch", "segmentation"), ("onnx", "depth"), ("openvino", "pose")]
RESULTS = {"segmentation": "labels.png", "depth": "depth_mm.png", "pose": "joints.json"}
_ALONE = "import sys, runpy; sys.modules['metaprompts'] = None; runpy.run_path('predict.py', run_name='__main__')"


@pytest.mark.full
@pytest.mark.parametrize(("kind", "task"), PAIRS)
def test_the_file_is_the_model(kind: str, task: str, tmp_path: Path) -> None:
    """By the command, with its report, its description and its example."""
    small_model(task).save(tmp_path / "model")
    picture = tmp_path / "scene.png"
    Image.fromarray(generate_scene(77, 96, 128).image).save(picture)

    words = ["export", str(tmp_path / "model"), "--format", kind, "--out", str(tmp_path / "out")]
    assert main([*words, "--pictures", str(picture)]) == 0

    report, facts = (json.loads((tmp_path / f"out/{name}.json").read_text()) for name in ("parity", "model"))
    assert report["pictures"] == 1
    # Of the largest value: what these weights, which learned nothing, say hardly varies.
    assert report["max_difference"] < 1e-5 * report["output_max"]
    assert report["max_difference_in_a_batch"] < 1e-5 * report["output_max"]
    assert report["mean_difference"] < 1e-4 * report["output_std"]
    assert (facts["format"], facts["task"], facts["input"]["shape"]) == (kind, task, ["batch", 3, 64, 64])
    assert {*facts["files"], "model.json", "parity.json", "predict.py"} == {
        path.name for path in (tmp_path / "out").iterdir()
    }
    subprocess.run([sys.executable, "-c", _ALONE, str(picture)], check=True, cwd=tmp_path / "out")
    assert (tmp_path / "out" / RESULTS[task]).is_file()


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
def test_the_example_is_python(kind: str) -> None:
    names = {
        name.name
        for node in ast.walk(ast.parse(export_run._example(FORMATS[kind])))
        if isinstance(node, ast.Import)
        for name in node.names
    }

    assert names == {"json", "sys", "numpy", FORMATS[kind].runtime}


def test_the_example_clips_what_millimeters_cannot_tell(tmp_path: Path) -> None:
    """Depths beyond 65.535 m do not come out as near ones."""
    text = export_run._example(
        replace(FORMATS["onnx"], example={"imports": "", "load": "", "run": "np.full((1, 4, 4), 70.0)"})
    )
    (tmp_path / "predict.py").write_text(text)
    facts = {"task": "depth", "input": {"shape": ["batch", 3, 4, 4]}}
    (tmp_path / "model.json").write_text(json.dumps(facts))
    Image.new("RGB", (4, 4)).save(tmp_path / "picture.png")

    subprocess.run([sys.executable, "predict.py", "picture.png"], check=True, cwd=tmp_path)

    assert (np.asarray(Image.open(tmp_path / "depth_mm.png")) == 65535).all()


@pytest.mark.full
def test_the_example_predicts_at_the_pictures_size(tmp_path: Path) -> None:
    """Depth in millimeters, near what the model says of the same picture."""
    model = small_model("depth")
    scene = generate_scene(78, 64, 64).image
    Image.fromarray(scene).save(tmp_path / "scene.png")
    export_model(model, tmp_path / "out", kind="openvino", pictures=[scene])

    subprocess.run([sys.executable, "-c", _ALONE, str(tmp_path / "scene.png")], check=True, cwd=tmp_path / "out")

    found = np.asarray(Image.open(tmp_path / "out/depth_mm.png"))
    np.testing.assert_allclose(found, model.predict(scene).depth_m * 1000, atol=2)


def test_nothing_is_left_of_an_export_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*what: object) -> None:
        raise InputError("no")

    monkeypatch.setattr(export_run, "_parity", fail)
    monkeypatch.setitem(FORMATS, "openvino", replace(FORMATS["openvino"], write=lambda model, size, path: path.touch()))

    with pytest.raises(InputError, match=r"^no$"):
        export_model(small_model("depth"), tmp_path / "out", kind="openvino", pictures=[])

    assert list(tmp_path.iterdir()) == []


def _export_quickly(monkeypatch: pytest.MonkeyPatch, out: Path, kind: str) -> None:
    """Write files that hold nothing."""

    def write(model: object, size: object, path: Path) -> None:
        path.touch()
        if FORMATS[kind].weights:
            path.with_suffix(FORMATS[kind].weights).touch()

    monkeypatch.setattr(export_run, "_parity", lambda *what: {})
    monkeypatch.setitem(FORMATS, kind, replace(FORMATS[kind], write=write, needs=()))
    export_model(small_model("depth"), out, kind=kind, pictures=[])


def test_another_export_takes_the_place_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of both formats lay side by side, one of them told of by nothing. What is not of an export stays."""
    out = tmp_path / "out"
    _export_quickly(monkeypatch, out, "openvino")
    for name in ("model.onnx", "notes.txt"):
        (out / name).touch()

    _export_quickly(monkeypatch, out, "torch")

    common = {"model.json", "parity.json", "predict.py"}
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


def test_the_folder_may_be_the_one_where_the_user_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path without a name has no neighbor to write to first."""
    monkeypatch.chdir(tmp_path)

    _export_quickly(monkeypatch, Path(), "torch")

    assert (tmp_path / "model.pt2").is_file()


def test_a_file_in_the_place_of_the_folder_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was after minutes of converting."""
    monkeypatch.setattr("metaprompts.loading.load", None)
    (tmp_path / "file").touch()

    assert main(["export", "micro-depth", "--format", "torch", "--out", str(tmp_path / "file/out")]) == 2

    line = f"error: cannot write to {tmp_path}/file/out: {tmp_path}/file is no folder\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("task", "size", "line"),
    [
        ("depth", (100, 128), "--size is 100 128; wanted multiples of 64"),
        ("pose", (128, 128), r"--size is 128 128, but the model's crops of people are 64 64: leave it out"),
        ("segmentation", None, "the model does not say on what size it was trained: give --size HEIGHT WIDTH"),
    ],
)
def test_a_size_that_does_not_fit_is_refused(
    task: str, size: tuple[int, int] | None, line: str, tmp_path: Path
) -> None:
    model = small_model(task)
    model.config = replace(model.config, working_size=None)

    with pytest.raises(InputError, match=f"^{line}$"):
        export_model(model, tmp_path / "out", kind="torch", size=size, pictures=[])


def test_a_missing_runtime_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_run, "find_spec", lambda name: None)

    with pytest.raises(InputError, match=r"^format onnx needs onnx, onnxscript, onnxruntime: pip install "):
        export_model(small_model("depth"), tmp_path / "out", kind="onnx", pictures=[])
