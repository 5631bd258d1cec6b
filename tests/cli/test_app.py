"""``metaprompts app``: its options; the app itself is tested in tests/app."""

import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from metaprompts.app import server
from metaprompts.cli import main
from metaprompts.embedded import embedded_models


@pytest.fixture
def served(monkeypatch):
    """What would be served; the app is interrupted at once."""
    seen = []

    @contextmanager
    def serving(settings, limits, *, host, port):
        seen.append((settings, limits, host, port))
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(server, "serving", serving)
    return seen


def test_defaults(served, capsys):
    assert main(["app"]) == 0
    ((settings, limits, host, port),) = served
    assert settings.sources == embedded_models()
    assert (host, port, limits.upload_bytes, limits.side_px) == ("127.0.0.1", None, 20_000_000, 4096)
    assert "the app has stopped" in capsys.readouterr().out


def test_models_and_limits(served):
    words = "--host 0.0.0.0 --port 8000 --max-upload 1MB --max-side 99 --queue 3 --timeout 9 --engine eager".split()
    assert main(["app", "micro-depth", "micro-depth", *words]) == 0
    ((settings, limits, host, port),) = served
    assert (settings.sources, settings.engine, host, port) == (("micro-depth",) * 2, "eager", "0.0.0.0", 8000)
    assert (limits.upload_bytes, limits.side_px, limits.queue, limits.timeout_s) == (1_000_000, 99, 3, 9)


def test_precision(served):
    assert main(["app", *"--precision w8a8 --calibration photos --calibration-samples 4".split()]) == 0
    ((settings, *_),) = served
    assert (settings.precision, settings.calibration, settings.calibration_samples) == ("w8a8", Path("photos"), 4)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--adapter", "a"], "--adapter needs the MODEL it was trained on: expected 1 model, got 0"),
        (["micro", "--adapter", "missing"], "cannot read missing: No such file or directory"),
        (["--max-upload", "much"], "--max-upload is 'much'; expected bytes"),
        (["--share"], "No such option '--share'"),
        (["--port", "0"], "0 is not in the range 1<=x<=65535"),
    ],
)
def test_bad_options_are_one_line(served, words, line, capsys):
    assert main(["app", *words]) == 2
    printed = capsys.readouterr().err
    assert line in printed
    assert printed.count("\n") == 1


def test_without_gradio(monkeypatch, capsys):
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    assert main(["app"]) == 2
    assert capsys.readouterr().err == "error: the app needs Gradio: pip install 'metaprompts[app]'\n"


def test_a_taken_port_is_told_before_models_are_loaded(monkeypatch, capsys):
    pytest.importorskip("gradio")
    monkeypatch.setattr(server, "ModelProcess", None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["app", "--port", str(port)]) == 2
    line = f"error: the app cannot listen on 127.0.0.1, port {port}: Address already in use; change --host or --port\n"
    assert capsys.readouterr().err == line


def test_help_imports_neither_gradio_nor_torch():
    code = """import sys
from metaprompts.cli import main
main(["app", "--help"])
print([name for name in ("gradio", "torch", "fastapi") if name in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
    assert "--max-upload SIZE" in done.stdout
