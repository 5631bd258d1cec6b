"""Libraries that report home are kept from it: what is done here stays here."""

import os
import sys

_VARIABLES = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
}
_OPENVINO_S = "openvino_telemetry"


def switch_off_telemetry() -> None:
    """Let no library send usage data; to be called before they are imported. What the user has set stays so.

    OpenVINO and NNCF report every import, and write a file with a user id in the home folder, unless
    openvino_telemetry cannot be imported; they have no other switch that needs no file.
    """
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    sys.modules.setdefault(_OPENVINO_S, None)  # type: ignore[arg-type]
