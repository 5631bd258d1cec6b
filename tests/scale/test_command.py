"""metaprompts label on the command line, and the blocks of docs/label.md."""

import re
import sys
from pathlib import Path

import pytest
from PIL import Image

from metaprompts.cli import main

DOC = Path(__file__).resolve().parents[2] / "docs/label.md"
BLOCKS = dict(re.findall(r"### (.*?)\n\n```python\n(.*?)```", DOC.read_text(encoding="utf-8"), flags=re.DOTALL))
MODEL = "micro-segmentation"


@pytest.fixture
def label(models, tmp_path, monkeypatch, capsys):
    """Runs the command on a small model; returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*words, format="tar"):
        code = main(["label", str(models / "segmentation"), *map(str, words), "--out", "out", "--format", format])
        return code, *capsys.readouterr()

    return run


def test_it_says_what_it_did(label, photos):
    (photos / "bad.jpg").write_bytes(b"bad")
    for earlier in (0, 6):
        code, out, _ = label("photos")
        assert code == 0
        assert f"6 images, {earlier} of them labeled earlier, 1 with errors" in out
    (folder,) = Path("out").iterdir()
    assert f"labels in {folder.absolute()}" in out


@pytest.mark.slow
def test_parts(label, photos):
    code, out, _ = label("photos", "--part", "0/2", "--shard-size", "2")
    assert (code, "other parts still have to label 1 slice" in out) == (0, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone"], "gone does not exist: give a folder, a quoted pattern"),
        (["photos", "--part", "2/2"], "--part is 2/2; expected I/N with 0 <= I < N"),
        (["photos", "--detector", MODEL], "a detector applies only to pose, but the model predicts segmentation"),
        (["photos/notes.md"], "no image could be labeled: see the error column"),
    ],
)
def test_errors_are_one_line(label, photos, words, message):
    code, _, errors = label(*words)
    assert code == 2
    assert message in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--engine", "ray"], "pip install 'metaprompts[ray]', or give --engine local"),
        (["--address", "auto"], "--address requires --engine ray: add --engine ray, or omit --address"),
        (["--gpus-per-worker", "0"], "--gpus-per-worker requires --engine ray"),
    ],
)
def test_without_ray(label, photos, monkeypatch, words, message):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, errors = label("photos", *words)
    assert (code, message in errors) == (2, True)


def test_without_pyarrow(label, photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, errors = label("photos", format="parquet")
    assert code == 2
    assert "parquet needs pyarrow: pip install 'metaprompts[label]', or pass --format tar" in errors


def test_nothing_but_its_engine_imports_ray():
    package = Path(sys.modules["metaprompts"].__file__).parent
    found = [path.name for path in package.rglob("*.py") if re.search(r"^\s*(import|from) ray", path.read_text(), re.M)]
    assert set(found) <= {"ray_engine.py"}


class TestDocs:
    @pytest.fixture
    def here(self, tmp_path, monkeypatch, photos):
        monkeypatch.chdir(tmp_path)
        for name in ("a.jpg", "b.jpg"):
            Image.open(photos / "a.png").save(photos / name)

    @pytest.mark.parametrize("name", list(BLOCKS))
    def test_blocks_have_ten_lines(self, name):
        assert len([line for line in BLOCKS[name].splitlines() if line]) <= 10

    @pytest.mark.slow
    def test_the_loop_runs(self, here, capsys):
        exec(compile(BLOCKS["A loop"], str(DOC), "exec"), {})
        assert re.fullmatch(r"photos/a.jpg 0\.\d\d\nphotos/b.jpg 0\.\d\d\n", capsys.readouterr().out)
