"""Switch off usage reports of libraries."""

import os
import sys

_VARIABLES = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_OPENVINO_S = "openvino_telemetry"


def switch_off_telemetry() -> None:
    """Keep libraries from sending usage data; call this before importing them. Settings made by the user are kept.

    OpenVINO and NNCF report every import, and write a file with a user id in the home folder, unless openvino_telemetry
    cannot be imported; the only other way to switch this off is a file.
    """
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    sys.modules.setdefault(_OPENVINO_S, None)  # type: ignore[arg-type]
