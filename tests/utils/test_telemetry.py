import importlib.util
import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["openvino", "nncf"])
def test_nothing_reports_home(tmp_path, package):
    """OpenVINO sent an event at every import, and made ~/intel with a user id."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")
    code = (
        "import sys\n"
        "from metaprompts.utils.telemetry import switch_off_telemetry\n"
        "switch_off_telemetry()\n"
        f"import {package}\n"
        "print([name for name, module in sys.modules.items() if 'openvino_telemetry' in name and module])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert not list(tmp_path.glob("intel*"))
